import { expect, test } from 'vitest';
import type { DeliveryTask } from '../task.ts';
import { Lane } from './lane.ts';
import { type Turn, Turns } from './turns.ts';

const task = (id: string, priority = 0, late = false) => ({ id, priority, late, orderNumber: null }) as DeliveryTask;

const lane = (
  tenantId: string,
  webhookId: string,
  tasks: number,
  options: { late?: boolean; priority?: number } = {},
) => {
  const made = new Lane({ tenantId, environmentId: 'e', webhookId });
  for (let n = 0; n < tasks; n++) made.push(task(`${webhookId}-${n}`, options.priority, options.late));
  return made;
};

/** Starts one request, as the engine does. */
const begin = (turns: Turns): Turn | undefined => {
  const turn = turns.next();
  if (turn === undefined) return undefined;
  turn.lane.shift(turn.kind);
  turns.offer(turn.lane);
  return turn;
};

/** The name of the lane whose turn it was. */
const start = (turns: Turns): string | undefined => begin(turns)?.lane.webhookId;

const end = (turns: Turns, turn: Turn | undefined, tookMs: number) => {
  if (turn === undefined) throw new Error('There was no turn.');
  turns.end(turn, tookMs);
  turns.offer(turn.lane);
};

test('tenants take turns however many lanes and deliveries one of them has', () => {
  const turns = new Turns(100);
  for (const webhook of ['a1', 'a2', 'a3']) turns.offer(lane('a', webhook, 50));
  turns.offer(lane('b', 'b1', 3));
  expect(Array.from({ length: 6 }, () => start(turns))).toEqual(['a1', 'b1', 'a2', 'b1', 'a3', 'b1']);
});

test('a tenant whose requests hang leaves half of the places to the others, and they leave some too', () => {
  const turns = new Turns(16);
  turns.offer(lane('hanging', 'h', 100));
  const started = Array.from({ length: 20 }, () => start(turns)).filter((name) => name !== undefined);
  expect(started).toHaveLength(8);
  turns.offer(lane('second', 's', 100));
  expect(Array.from({ length: 6 }, () => start(turns)).filter((name) => name === 's')).toHaveLength(4);
  turns.offer(lane('third', 't', 5));
  expect(start(turns)).toBe('t');
});

test('a tenant that had all the places it may have goes on when another gives one back', () => {
  const turns = new Turns(4);
  turns.offer(lane('a', 'a', 10));
  const held = [begin(turns), begin(turns)];
  turns.offer(lane('b', 'b', 1));
  const other = begin(turns);
  expect(other?.lane.webhookId).toBe('b');
  expect(begin(turns)).toBeUndefined();
  end(turns, other, 1);
  expect(begin(turns)).toBeUndefined();
  end(turns, held[0], 1);
  expect(start(turns)).toBe('a');
});

test('worker time is what is shared: who kept places busy for long waits until the others had as much', () => {
  const turns = new Turns(2);
  turns.offer(lane('slow', 's', 50));
  turns.offer(lane('quick', 'q', 500));
  const counts: Record<string, number> = { s: 0, q: 0 };
  for (let n = 0; n < 110; n++) {
    const turn = begin(turns);
    const name = turn?.lane.webhookId ?? '';
    counts[name] = (counts[name] ?? 0) + 1;
    turn?.lane.learn(true, name === 's' ? 1_000 : 100);
    end(turns, turn, name === 's' ? 1_000 : 100);
  }
  expect(counts.q).toBeGreaterThanOrEqual(95);
  expect(counts.s).toBeGreaterThanOrEqual(8);
});

test('who was idle has no credit: it takes turns with the others from then on', () => {
  const turns = new Turns(2);
  turns.offer(lane('busy', 'b', 1_000));
  for (let n = 0; n < 500; n++) end(turns, begin(turns), 100);
  turns.offer(lane('new', 'n', 100));
  const names = Array.from({ length: 20 }, () => {
    const turn = begin(turns);
    end(turns, turn, 100);
    return turn?.lane.webhookId;
  });
  expect(names.filter((name) => name === 'n').length).toBeLessThanOrEqual(11);
  expect(names.filter((name) => name === 'n').length).toBeGreaterThanOrEqual(9);
});

test('a storm of retries takes one turn in four from first attempts, and at most half of the places', () => {
  const turns = new Turns(400);
  for (let n = 0; n < 100; n++) turns.offer(lane('a', `retries${n}`, 4, { late: true }));
  for (let n = 0; n < 10; n++) turns.offer(lane('b', `fresh${n}`, 60));
  const kinds = Array.from({ length: 40 }, () => begin(turns)?.kind);
  expect(kinds.filter((kind) => kind === 'later')).toHaveLength(10);
  const alone = new Turns(10);
  for (let n = 0; n < 20; n++) alone.offer(lane(`t${n}`, `retries${n}`, 1, { late: true }));
  let started = 0;
  while (begin(alone) !== undefined) started += 1;
  expect(started).toBe(5);
});

test('a backlog begins with few requests and doubles while they succeed', () => {
  const turns = new Turns(1_000);
  const backlog = lane('a', 'w', 500, { late: true });
  turns.offer(backlog);
  const round = (): Turn[] => {
    const all: Turn[] = [];
    for (let turn = begin(turns); turn !== undefined; turn = begin(turns)) all.push(turn);
    return all;
  };
  const sizes: number[] = [];
  for (let n = 0; n < 4; n++) {
    const turns_ = round();
    sizes.push(turns_.length);
    for (const turn of turns_) turn.lane.learn(true, 5);
    for (const turn of turns_) end(turns, turn, 5);
  }
  expect(sizes).toEqual([4, 8, 16, 32]);
  const failed = round();
  for (const turn of failed) turn.lane.learn(false, 5);
  for (const turn of failed) end(turns, turn, 5);
  expect(round()).toHaveLength(4);
});

test('within a tenant the more urgent lane is next', () => {
  const turns = new Turns(100);
  turns.offer(lane('a', 'plain', 2));
  turns.offer(lane('a', 'urgent', 2, { priority: 10 }));
  turns.offer(lane('b', 'other', 2));
  expect(Array.from({ length: 6 }, () => start(turns))).toEqual([
    'urgent',
    'other',
    'urgent',
    'other',
    'plain',
    'plain',
  ]);
});

test('a lane never has more requests under way than its concurrency, and goes on when one ends', () => {
  const turns = new Turns(100);
  const narrow = lane('a', 'narrow', 10);
  narrow.concurrency = 2;
  turns.offer(narrow);
  const first = begin(turns);
  expect([start(turns), start(turns)]).toEqual(['narrow', undefined]);
  end(turns, first, 1);
  expect([start(turns), start(turns)]).toEqual(['narrow', undefined]);
});

test('the places are never exceeded, and all are given back', () => {
  const turns = new Turns(3);
  for (const tenant of ['a', 'b', 'c', 'd']) turns.offer(lane(tenant, tenant, 4));
  const running: Turn[] = [];
  let total = 0;
  for (;;) {
    const turn = begin(turns);
    if (turn === undefined) {
      const ended = running.shift();
      if (ended === undefined) break;
      end(turns, ended, 1);
      continue;
    }
    running.push(turn);
    total += 1;
    expect(turns.inFlight).toBeLessThanOrEqual(3);
  }
  expect(total).toBe(16);
  expect(turns.inFlight).toBe(0);
});

test("a tenant's later attempts that hang leave places of its own to its first ones", () => {
  const turns = new Turns(8);
  turns.offer(lane('a', 'storm', 40, { late: true }));
  const held: (Turn | undefined)[] = [];
  for (let n = 0; n < 8; n++) held.push(begin(turns));
  expect(held.filter((turn) => turn !== undefined).length).toBeLessThan(4);
  turns.offer(lane('a', 'usual', 5));
  const first = begin(turns);
  expect(first?.lane.webhookId).toBe('usual');
  end(turns, first, 1);
  expect(start(turns)).toBe('usual');
});
