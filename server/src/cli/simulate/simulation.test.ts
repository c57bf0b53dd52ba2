import { describe, expect, test } from 'vitest';
import { compileSchema } from '../../catalog/json-schema/compile-schema.ts';
import { findPreset, presets } from '../../catalog/presets/presets.ts';
import { PLAYS, type Play } from './plays.ts';
import { Random } from './random.ts';
import { type SimulatedEvent, simulate } from './simulation.ts';

const START = Date.parse('2026-01-05T08:00:00Z');

function first(play: Play, count: number, seed = 1): SimulatedEvent[] {
  const events: SimulatedEvent[] = [];
  for (const event of simulate(play, seed, START)) if (events.push(event) === count) break;
  return events;
}

test('each preset that has event types has a play', () => {
  const named = [...presets.values()].filter(({ event_types: types }) => types.length > 0).map(({ name }) => name);
  expect(PLAYS.map(({ preset }) => preset).sort()).toEqual(named.sort());
});

describe.each(PLAYS)('the play of $preset', (play) => {
  test('has only events that fit their schemas, in the order of their times', () => {
    const types = new Map(
      findPreset(play.preset)?.event_types.map((type) => [type.name, compileSchema(JSON.stringify(type.schema))]),
    );
    for (const seed of [1, 2, 3]) {
      let lastMs = START;
      for (const { eventType, data, atMs, says } of first(play, 1_500, seed)) {
        const schema = types.get(eventType);
        if (schema?.ok !== true) throw new Error(`${eventType} is no type of the preset.`);
        expect(schema.check(data), `${eventType} ${JSON.stringify(data)}`).toEqual([]);
        expect(atMs).toBeGreaterThanOrEqual(lastMs);
        expect(says).not.toBe('');
        lastMs = atMs;
      }
    }
  });

  test('is the same for the same seed, and another for another', () => {
    const texts = (seed: number) => JSON.stringify(first(play, 300, seed));
    expect(texts(7)).toBe(texts(7));
    expect(texts(7)).not.toBe(texts(8));
  });

  test('tells of nothing that has not happened yet', () => {
    for (const { eventType, data, atMs } of first(play, 500)) {
      for (const [, name, time] of JSON.stringify(data).matchAll(/"(\w+_at)":"([^"]+)"/g)) {
        if (name === 'starts_at' || name === 'ends_at') continue;
        expect(Date.parse(time ?? ''), `${eventType} ${name}`).toBeLessThanOrEqual(atMs);
      }
    }
  });

  test('goes through new stories without end, whose ids are their own', () => {
    const events = first(play, 3_000);
    expect(events.at(-1)?.stories).toBeGreaterThan(10);
    expect(new Set(events.map(({ eventType }) => eventType)).size).toBeGreaterThan(7);
  });
});

const playOf = (preset: string) => PLAYS.find((play) => play.preset === preset) as Play;
// biome-ignore lint/suspicious/noExplicitAny: payloads are looked into freely
const dataOf = (events: SimulatedEvent[], type: string): any[] =>
  events.filter(({ eventType }) => eventType === type).map(({ data }) => data);

describe('events tell of the same things', () => {
  test('of an internet provider: whoever is suspended has signed up, and has an invoice that is not paid', () => {
    const events = first(playOf('isp-framework'), 2_000);
    const suspended = dataOf(events, 'service.suspended');
    expect(suspended.length).toBeGreaterThan(5);
    for (const { service, customer } of suspended) {
      const [signedUp] = dataOf(events, 'customer.created').filter(({ id }) => id === customer.id);
      expect([signedUp.full_name, signedUp.portal_id]).toEqual([customer.full_name, customer.portal_id]);
      expect(
        dataOf(events, 'customer.service.created').find((each) => each.customer_id === customer.id).service,
      ).toEqual(service);
      const at = events.findIndex(
        ({ data, eventType }) => eventType === 'service.suspended' && (data as { service: object }).service === service,
      );
      const before = events.slice(0, at);
      const paid = dataOf(before, 'invoice.paid')
        .filter((each) => each.customer_id === customer.id)
        .map(({ id }) => id);
      const overdue = dataOf(before, 'invoice.overdue').filter((each) => each.customer_id === customer.id);
      expect(overdue).toHaveLength(2);
      expect(paid).not.toContain(overdue[0].id);
      expect(dataOf(before, 'invoice.created').map(({ id }) => id)).toContain(overdue[0].id);
    }
    for (const { payment_id: id, total } of dataOf(events, 'invoice.paid')) {
      expect(dataOf(events, 'payment.processed').find((payment) => payment.id === id).amount).toBe(total);
    }
  });

  test('of a call centre: a campaign counts the calls that were made', () => {
    const events = first(playOf('call-center'), 1_000);
    const ended = events.findIndex(({ eventType }) => eventType === 'campaign.completed');
    const day = events.slice(0, ended);
    const [{ results }] = dataOf(events, 'campaign.completed');
    expect(results).toMatchObject({
      calls_made: dataOf(day, 'call.started').length,
      calls_answered: dataOf(day, 'call.answered').length,
      conversions: dataOf(day, 'lead.converted').length,
      revenue: dataOf(day, 'lead.converted').reduce((sum, { deal }) => sum + deal.value, 0),
    });
    for (const { call } of dataOf(day, 'call.ended')) {
      const [started] = dataOf(day, 'call.started').filter((each) => each.call.id === call.id);
      expect(call.duration).toBe((Date.parse(call.ended_at) - Date.parse(started.call.started_at)) / 1000);
    }
  });

  test('of a WhatsApp campaign: its totals are what was sent, read and answered', () => {
    const events = first(playOf('whatsapp-crm'), 500);
    const day = events.slice(
      0,
      events.findIndex(({ eventType }) => eventType === 'campaign.completed'),
    );
    const [{ totals }] = dataOf(events, 'campaign.completed');
    expect(totals).toEqual({
      recipients: dataOf(day, 'campaign.started')[0].audience_size,
      sent: dataOf(day, 'message.sent').filter(({ message }) => message.sent_by === 'campaign').length,
      delivered: dataOf(day, 'message.delivered').length,
      read: dataOf(day, 'message.read').length,
      failed: dataOf(day, 'message.failed').length,
      replied: dataOf(day, 'message.new').length,
    });
  });

  test('of a ticket: it begins with its creation and is resolved once', () => {
    const events = first(playOf('support-autoresponder'), 1_000);
    for (const { ticket } of dataOf(events, 'ticket.resolved')) {
      expect(dataOf(events, 'ticket.created').filter((each) => each.ticket.id === ticket.id)).toHaveLength(1);
      expect(dataOf(events, 'ticket.resolved').filter((each) => each.ticket.id === ticket.id)).toHaveLength(1);
    }
  });
});

test('random numbers keep to their bounds, and reach them', () => {
  const random = new Random(5, 6);
  const drawn = new Set(Array.from({ length: 500 }, () => random.between(-2, 3)));
  expect([...drawn].sort((a, b) => a - b)).toEqual([-2, -1, 0, 1, 2, 3]);
  expect(Array.from({ length: 100 }, () => random.chance(0)).includes(true)).toBe(false);
  expect(new Random(1, 2).next()).not.toBe(new Random(2, 1).next());
});
