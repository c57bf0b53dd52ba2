import { makePerson } from './people.ts';
import { DAY, HOUR, type Life, type LifeEvent, MINUTE, timeText } from './story.ts';

const SYSTEM = { id: 1, name: 'Network operations', email: 'noc@isp.example.com', role: 'system' };
const AGENTS = [
  { id: 5, name: 'Sipho Nkosi', email: 'sipho@isp.example.com', role: 'agent' },
  { id: 6, name: 'Hanna Berg', email: 'hanna@isp.example.com', role: 'agent' },
] as const;
const AREAS = ['Northside', 'Harbour', 'Old Town'] as const;

/** An outage as a provider's customers hear of it: announced, asked about, answered, over. */
export function* outage(life: Life): Generator<LifeEvent> {
  const { random, number } = life;
  const person = makePerson(random, number);
  const customer = { id: 1_000 + number, name: person.name, email: person.email, role: 'customer' };
  const agent = random.pick(AGENTS);
  const by = { id: agent.id, name: agent.name };
  const area = random.pick(AREAS);
  const announcement = {
    announcement_id: 100 + number,
    title: `Outage in ${area}`,
    content: `A fibre was cut. Engineers are on the way to ${area}.`,
    audience: 'area',
    areas: [area],
    priority: 'high',
    is_published: true,
    starts_at: life.now,
  };
  yield life.event('announcement.created', announcement.title, { ...announcement, author: by, created_at: life.now });
  life.wait(5, MINUTE);
  const notification = {
    notification_id: 10_000 + number,
    title: announcement.title,
    content: announcement.content,
    type: 'outage',
    priority: 'high',
    recipient: customer,
    channels: ['in_app', 'sms'],
  };
  yield life.event('notification.created', `${customer.name} is told`, { ...notification, created_at: life.now });
  life.wait(5 * MINUTE, HOUR);
  yield life.event('notification.updated', `${customer.name} has read it`, {
    ...notification,
    is_read: true,
    read_at: life.now,
    updated_fields: ['is_read'],
    updated_at: life.now,
  });
  life.wait(MINUTE, 20 * MINUTE);
  const ticket = { ticket_id: 500 + number, ticket_number: `TKT-${500 + number}`, subject: 'When is it back?' };
  yield life.event('ticket.created', `${customer.name} asks: ${ticket.subject}`, {
    ...ticket,
    description: `We have had no internet in ${area} for an hour.`,
    status: 'open',
    priority: 'high',
    category: 'connectivity',
    customer,
    assigned_to: by,
    created_at: life.now,
  });
  life.wait(5 * MINUTE, 30 * MINUTE);
  yield life.event('ticket.response_added', `${agent.name} answers`, {
    ...ticket,
    status: 'waiting_on_customer',
    response: {
      id: 7_000 + number,
      content: 'The fibre is being spliced; two hours more.',
      author: agent,
      is_internal: false,
      created_at: life.now,
    },
  });
  life.wait(HOUR, 3 * HOUR);
  yield life.event('announcement.updated', `${area} is back`, {
    ...announcement,
    ends_at: timeText(life.nowMs + DAY * 1000),
    updated_by: by,
    updated_fields: ['ends_at'],
    updated_at: life.now,
  });
  life.wait(MINUTE, 5 * MINUTE);
  const message = {
    message_id: 20_000 + number,
    subject: `${area} is back`,
    content: 'The outage is over. Thank you for your patience.',
    sender: SYSTEM,
    recipient: customer,
    priority: 'normal',
  };
  yield life.event('message.created', `${customer.name} gets a message`, { ...message, created_at: life.now });
  life.wait(MINUTE, HOUR);
  yield life.event('message.updated', `${customer.name} has read it`, {
    ...message,
    is_read: true,
    updated_fields: ['is_read'],
    updated_at: life.now,
  });
  life.wait(MINUTE, HOUR);
  yield life.event('ticket.updated', `${ticket.ticket_number} is closed`, {
    ...ticket,
    status: 'closed',
    priority: 'high',
    customer,
    assigned_to: by,
    updated_by: by,
    updated_fields: ['status'],
    updated_at: life.now,
  });
}
