import { expect, test } from 'vitest';
import type { DeliveryTask } from '../task.ts';
import { InHand } from './in-hand.ts';

const MEBIBYTE = 1024 * 1024;

let made = 0;
const task = (
  tenantId: string,
  webhookId: string,
  bytes = 10,
  claimed: DeliveryTask['claimed'] = false,
): DeliveryTask => {
  made += 1;
  const id = `00000000-0000-7000-8000-${String(made).padStart(12, '0')}`;
  const event = { data: Buffer.alloc(bytes) } as DeliveryTask['event'];
  return {
    tenantId,
    environmentId: 'e',
    id,
    webhookId,
    event,
    attemptCount: 0,
    trigger: 'scheduled',
    priority: 0,
    late: false,
    claimed,
    orderingKey: null,
    orderNumber: null,
  };
};

const key = (tenantId: string, webhookId: string) => ({ tenantId, environmentId: 'e', webhookId });

const rowsFor = (inHand: InHand, tenantId: string, webhookId: string) =>
  inHand.roomToClaim(inHand.lane(key(tenantId, webhookId))).rows;

const claimed = (tenantId: string, webhookId: string) => task(tenantId, webhookId, 10, 'first');

test('a tenant fills half of the places for claimed deliveries, a second one half of the rest, and so on', () => {
  const inHand = new InHand(100);
  for (let n = 0; n < 5; n++) inHand.hold(claimed('a', 'wa'));
  expect(rowsFor(inHand, 'a', 'wa')).toBe(0);
  expect(rowsFor(inHand, 'b', 'wb')).toBe(3);
  for (let n = 0; n < 3; n++) inHand.hold(claimed('b', 'wb'));
  expect(rowsFor(inHand, 'b', 'wb')).toBe(0);
  expect(rowsFor(inHand, 'c', 'wc')).toBe(1);
});

test('what is published has places of its own, of which a tenant fills half', () => {
  const inHand = new InHand(20);
  for (let n = 0; n < 8; n++) inHand.hold(task('a', 'wa'));
  expect(inHand.hasRoom(inHand.lane(key('a', 'wa')))).toBe(true);
  inHand.hold(task('a', 'wa'));
  expect(inHand.hasRoom(inHand.lane(key('a', 'wa')))).toBe(false);
  expect(inHand.hasRoom(inHand.lane(key('b', 'wb')))).toBe(true);
  expect(rowsFor(inHand, 'a', 'wa')).toBe(1);
  inHand.hold(claimed('a', 'wa'));
  expect(rowsFor(inHand, 'a', 'wa')).toBe(0);
});

test('a lane has at most 2,000 claimed deliveries in memory, however many were published to it', () => {
  const inHand = new InHand(200_000);
  for (let n = 0; n < 3_000; n++) inHand.hold(task('a', 'wa'));
  for (let n = 0; n < 1_999; n++) inHand.hold(claimed('a', 'wa'));
  expect(rowsFor(inHand, 'a', 'wa')).toBe(1);
  expect(rowsFor(inHand, 'a', 'wb')).toBe(2_000);
});

test('a tenant with large payloads fills half of the bytes', () => {
  const inHand = new InHand(1_000);
  for (let n = 0; n < 128; n++) inHand.hold(task('a', 'wa', MEBIBYTE));
  expect(inHand.hasRoom(inHand.lane(key('a', 'wa')))).toBe(false);
  expect(rowsFor(inHand, 'a', 'wa')).toBe(0);
  expect(inHand.hasRoom(inHand.lane(key('b', 'wb')))).toBe(true);
  expect(rowsFor(inHand, 'b', 'wb')).toBeGreaterThan(0);
});

test('retries leave a quarter of the places for claimed deliveries to first attempts', () => {
  const inHand = new InHand(200_000);
  const storm = (webhookId: string, count: number) => {
    for (let n = 0; n < count; n++) inHand.hold(task('a', webhookId, 10, 'later'));
  };
  storm('wa', 1_500);
  expect(inHand.roomToClaim(inHand.lane(key('a', 'wa')))).toMatchObject({ rows: 500, later: 0 });
  for (const webhookId of ['wb', 'wc', 'wd', 'we']) storm(webhookId, 1_500);
  const room = inHand.roomToClaim(inHand.lane(key('a', 'wf')));
  expect(room.later).toBe(0);
  expect(room.rows).toBe(2_000);
});

test('a claim of a tenant takes half of the bytes that it may still have, so that there is room beside it', () => {
  const inHand = new InHand(1_000);
  inHand.hold(task('a', 'wa', 64 * MEBIBYTE));
  expect(inHand.payloadBytes).toBe(64 * MEBIBYTE);
  expect(inHand.roomToClaim(inHand.lane(key('a', 'wb'))).bytes).toBe(64 * MEBIBYTE);
  expect(inHand.roomToClaim(inHand.lane(key('b', 'wc'))).bytes).toBe(96 * MEBIBYTE);
});

test('what is let go of makes room, once, and its lane goes when nothing of it waits', () => {
  const inHand = new InHand(2);
  const only = task('a', 'wa');
  inHand.hold(only);
  expect(inHand.hasRoom(inHand.lane(key('a', 'wa')))).toBe(false);
  inHand.letGo(only);
  inHand.letGo(only);
  expect(inHand.hasRoom(inHand.lane(key('a', 'wa')))).toBe(true);
  inHand.lane(key('a', 'wb')).rowsDueAtMs = 5;
  const other = task('a', 'wb');
  inHand.hold(other);
  inHand.letGo(other);
  expect([...inHand.lanes.keys()]).toEqual(['wa', 'wb']);
});

test('the oldest id is that of the delivery made first, whatever the order of holding', () => {
  const inHand = new InHand(10);
  const [first, second] = [task('a', 'w'), task('a', 'w')];
  inHand.hold(second);
  inHand.hold(first);
  expect(inHand.oldestId()).toBe(first.id);
  inHand.letGo(first);
  expect(inHand.oldestId()).toBe(second.id);
});

test('a delivery that comes back before its first stay has ended is counted once', () => {
  const inHand = new InHand(10);
  const first = task('a', 'w');
  const again = { ...first, claimed: 'later' as const };
  inHand.hold(first);
  inHand.hold(again);
  inHand.letGo(first);
  expect([inHand.size, inHand.lane(first).held]).toEqual([1, 1]);
  inHand.letGo(again);
  expect([inHand.size, inHand.lanes.size]).toEqual([0, 0]);
});
