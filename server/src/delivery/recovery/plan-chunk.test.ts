import { expect, test } from 'vitest';
import { type Candidate, planChunk } from './plan-chunk.ts';

const candidate = (changes: Partial<Candidate> = {}): Candidate => ({
  id: 'a',
  event_id: 'e',
  webhook_id: 'w',
  event_type: 'order.paid',
  status: 'dead',
  trigger: 'scheduled',
  has_payload: true,
  is_dead_letter: true,
  priority: 0,
  ordering_key: null,
  webhook_status: 'active',
  ...changes,
});
const plenty = new Map([['w', 100]]);

test.each([
  ['a dead one goes on', {}, 'resumed'],
  ['a cancelled one goes on', { status: 'cancelled', is_dead_letter: false }, 'resumed'],
  ['a delivered one is made anew', { status: 'delivered', is_dead_letter: false }, 'again'],
  ['one whose dead letter was purged is skipped', { is_dead_letter: false }, 'skipped'],
  ['a waiting one is skipped', { status: 'pending' }, 'skipped'],
  ['one between attempts is skipped', { status: 'failed' }, 'skipped'],
  ['a held one is skipped', { status: 'held' }, 'skipped'],
  ['a discarded one is skipped', { status: 'discarded' }, 'skipped'],
  ['a test is skipped', { status: 'delivered', trigger: 'test' }, 'skipped'],
  ['one whose payload is gone is skipped', { has_payload: false }, 'skipped'],
  ['one whose webhook was deleted is skipped', { webhook_status: null }, 'skipped'],
] as const)('%s', (_name, changes, expected) => {
  const one = candidate(changes);
  const plan = planChunk([one], plenty);
  expect(plan.resumed).toEqual(expected === 'resumed' ? [{ candidate: one, held: false }] : []);
  expect(plan.again).toEqual(expected === 'again' ? [{ candidate: one, held: false }] : []);
  expect(plan.blocked).toBeUndefined();
});

test('the first one without room stops the chunk, and those before it are done', () => {
  const [first, second, third] = ['1', '2', '3'].map((id) => candidate({ id })) as [Candidate, Candidate, Candidate];
  const other = candidate({ id: '4', webhook_id: 'x' });
  const plan = planChunk(
    [first, second, third, other],
    new Map([
      ['w', 2],
      ['x', 9],
    ]),
  );
  expect(plan.resumed.map(({ candidate: { id } }) => id)).toEqual(['1', '2']);
  expect(plan.blocked).toBe(third);
});

test('what is held or skipped takes no room', () => {
  const held = candidate({ id: '1', webhook_id: 'x', webhook_status: 'paused' });
  const skipped = candidate({ id: '2', status: 'pending' });
  const plan = planChunk([held, skipped, candidate({ id: '3' })], new Map([['w', 1]]));
  expect(plan.resumed.map(({ candidate: { id }, held }) => [id, held])).toEqual([
    ['1', true],
    ['3', false],
  ]);
  expect(plan.blocked).toBeUndefined();
});
