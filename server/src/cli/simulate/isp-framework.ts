import { makePerson } from './people.ts';
import { DAY, dateText, HOUR, type Life, type LifeEvent, MINUTE } from './story.ts';

const TARIFFS = [
  { id: 11, name: 'Fibre 50', price: 499, currency: 'ZAR' },
  { id: 12, name: 'Fibre 100', price: 699, currency: 'ZAR' },
  { id: 13, name: 'Fibre 500', price: 999, currency: 'ZAR' },
] as const;
const SPEEDS = { 11: 50, 12: 100, 13: 500 };
const BILLING = { id: 2, name: 'Billing' };
const STAFF = [
  { id: 5, name: 'Sipho Nkosi' },
  { id: 6, name: 'Hanna Berg' },
] as const;

/** A customer of an internet provider: signs up, pays for some months, and then does not. */
export function* ispCustomer(life: Life): Generator<LifeEvent> {
  const { random, number } = life;
  const person = makePerson(random, number);
  const id = 1_000 + number;
  const customer = { id, portal_id: `C${id}`, full_name: person.name, email: person.email };
  const tariff = random.pick(TARIFFS);
  const service = {
    id: 20_000 + number,
    name: tariff.name,
    type: 'internet',
    login: `c${id}@isp.example.com`,
    ipv4: `203.0.113.${(number % 254) + 1}`,
  };
  yield life.event('customer.created', `${person.name} signs up`, {
    ...customer,
    phone: person.phone,
    category: 'person',
    status: 'new',
  });
  life.wait(5 * MINUTE, HOUR);
  yield life.event('customer.service.created', `orders ${tariff.name}`, {
    customer_id: id,
    service,
    tariff,
    starts_on: dateText(life.nowMs + DAY * 1000),
  });
  life.wait(20 * HOUR, 30 * HOUR);
  const speed = SPEEDS[tariff.id];
  yield life.event('service.activated', `${tariff.name} works`, {
    service,
    customer,
    activated_at: life.now,
    download_mbps: speed,
    upload_mbps: speed / 2,
  });
  life.wait(1, MINUTE);
  yield overview('active');

  const paidMonths = random.between(1, 3);
  for (let month = 1; month <= paidMonths; month += 1) {
    life.wait(27 * DAY, 29 * DAY);
    const bill = invoice(month);
    yield issued(bill);
    life.wait(2 * DAY, 6 * DAY);
    yield* payment(bill, month);
  }

  life.wait(20 * DAY, 23 * DAY);
  const unpaid = invoice(paidMonths + 1);
  yield issued(unpaid);
  for (const [level, days] of [7, 14].entries()) {
    life.wait(level === 0 ? 14 * DAY : 7 * DAY, level === 0 ? 14 * DAY : 7 * DAY);
    yield life.event('invoice.overdue', `${unpaid.invoice_number} is ${days} days overdue`, {
      id: unpaid.id,
      invoice_number: unpaid.invoice_number,
      customer_id: id,
      total: unpaid.total,
      amount_due: unpaid.total,
      currency: unpaid.currency,
      due_on: unpaid.due_on,
      days_overdue: days,
      reminder_level: level + 1,
    });
  }
  life.wait(DAY, 2 * DAY);
  yield life.event('service.suspended', `${tariff.name} is suspended`, {
    service,
    customer,
    reason: 'non_payment',
    suspended_at: life.now,
  });
  life.wait(1, MINUTE);
  yield overview('suspended');
  yield* complaint();
  if (random.chance(0.6)) {
    life.wait(HOUR, DAY);
    yield* payment(unpaid, paidMonths + 1);
    life.wait(1, 5 * MINUTE);
    yield life.event('service.activated', `${tariff.name} works again`, { service, customer, activated_at: life.now });
    return;
  }
  life.wait(30 * DAY, 32 * DAY);
  yield life.event('service.terminated', `${tariff.name} is terminated`, {
    service,
    customer,
    reason: 'non_payment',
    terminated_at: life.now,
    equipment_returned: random.chance(0.5),
  });

  function overview(status: 'active' | 'suspended') {
    return life.event('customer.services.overview', 'an overview of the services', {
      customer_id: id,
      totals: { active: 0, suspended: 0, terminated: 0, [status]: 1 },
      monthly_total: status === 'active' ? tariff.price : 0,
      currency: tariff.currency,
      services: [{ id: service.id, name: service.name, type: service.type, status }],
    });
  }

  function invoice(month: number) {
    return {
      id: 300_000 + number * 100 + month,
      invoice_number: `INV-${id}-${String(month).padStart(2, '0')}`,
      customer_id: id,
      total: tariff.price,
      tax: Math.round(tariff.price * 13.04) / 100,
      currency: tariff.currency,
      issued_on: life.today,
      due_on: dateText(life.nowMs + 7 * DAY * 1000),
      items: [{ description: tariff.name, quantity: 1, unit_price: tariff.price, amount: tariff.price }],
    };
  }

  function issued(bill: ReturnType<typeof invoice>) {
    return life.event('invoice.created', `${bill.invoice_number} over ${bill.total} ${bill.currency}`, bill);
  }

  function* payment(bill: ReturnType<typeof invoice>, month: number): Generator<LifeEvent> {
    const paymentId = 400_000 + number * 100 + month;
    const method = random.pick(['bank_transfer', 'card', 'direct_debit'] as const);
    yield life.event('payment.processed', `pays ${bill.total} ${bill.currency}`, {
      id: paymentId,
      customer_id: id,
      invoice_ids: [bill.id],
      amount: bill.total,
      currency: bill.currency,
      method,
      transaction_reference: `TX${paymentId}`,
      processed_at: life.now,
    });
    life.wait(1, 10);
    yield life.event('invoice.paid', `${bill.invoice_number} is paid`, {
      id: bill.id,
      invoice_number: bill.invoice_number,
      customer_id: id,
      total: bill.total,
      currency: bill.currency,
      payment_id: paymentId,
      payment_method: method,
      paid_at: life.now,
    });
  }

  function* complaint(): Generator<LifeEvent> {
    life.wait(HOUR, 8 * HOUR);
    const openedMs = life.nowMs;
    const ticket = { id: 50_000 + number, ticket_number: `T-${50_000 + number}`, subject: 'No internet' };
    yield life.event('ticket.created', `complains: ${ticket.subject}`, {
      ...ticket,
      description: 'Nothing loads since this morning.',
      status: 'new',
      priority: 'high',
      customer_id: id,
      source: 'phone',
      created_at: life.now,
    });
    life.wait(5 * MINUTE, HOUR);
    const assignee = random.pick(STAFF);
    yield life.event('ticket.assigned', `${assignee.name} takes ${ticket.ticket_number}`, {
      ...ticket,
      assignee,
      previous_assignee: null,
      assigned_by: BILLING,
      assigned_at: life.now,
    });
    life.wait(MINUTE, 10 * MINUTE);
    yield life.event('ticket.status_changed', `${ticket.ticket_number} is in progress`, {
      ...ticket,
      old_status: 'new',
      new_status: 'in_progress',
      changed_by: assignee,
      changed_at: life.now,
    });
    life.wait(10 * MINUTE, 2 * HOUR);
    yield life.event('ticket.resolved', `${ticket.ticket_number} is resolved`, {
      ...ticket,
      customer_id: id,
      resolution: `The account is suspended; ${unpaid.invoice_number} is open.`,
      resolved_by: assignee,
      resolved_at: life.now,
      time_to_resolve_seconds: (life.nowMs - openedMs) / 1000,
    });
  }
}
