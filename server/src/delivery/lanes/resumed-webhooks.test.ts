import { expect, test } from 'vitest';
import { createIdSource } from '../../kernel/ids.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import type { DeliveryTask } from '../task.ts';
import { ResumedWebhooks } from './resumed-webhooks.ts';

test('what was made before a webhook was resumed was held up, for a while; what is made later was not', () => {
  const clock = new ManualClock();
  const newId = createIdSource(clock);
  const task = (webhookId: string) => ({ id: newId(), webhookId }) as DeliveryTask;
  const resumed = new ResumedWebhooks(clock, 10_000);
  const [before, other] = [task('w'), task('other')];
  clock.advance(1);
  resumed.note('w');
  expect([before, task('w'), other].map((each) => resumed.heldUp(each))).toEqual([true, false, false]);
  clock.advance(10_000);
  resumed.note('other');
  expect([before, other].map((each) => resumed.heldUp(each))).toEqual([true, true]);
  clock.advance(1);
  resumed.note('other');
  expect(resumed.heldUp(before), 'forgotten').toBe(false);
});

test('a tenant that was resumed has all of its webhooks resumed, and no other tenant’s', () => {
  const clock = new ManualClock();
  const newId = createIdSource(clock);
  const task = (tenantId: string) => ({ id: newId(), webhookId: newId(), tenantId }) as DeliveryTask;
  const resumed = new ResumedWebhooks(clock, 10_000);
  const tasks = [task('t'), task('t'), task('other')];
  clock.advance(1);
  resumed.note('t');
  expect(tasks.map((each) => resumed.heldUp(each))).toEqual([true, true, false]);
});
