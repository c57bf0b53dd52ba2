import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ProgramInput, RunResult } from '../../shaping/program.ts';
import type { Sandbox } from '../../shaping/sandbox/sandbox.ts';
import { createShaping } from '../../shaping/shaping.ts';
import { changeTransformation } from '../../shaping/transformation.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import type { DeliveryTask } from '../task.ts';
import { batchBody } from './batch.ts';
import { BatchShaper, type ShapedTogether } from './batch-shaper.ts';

const target = { envelope: 'raw', bodySpelling: 'published' } as WebhookTarget;
const shaping = createShaping(changeTransformation(null, { template: '{}' }), [], []);
const taskOf = (place: number) =>
  ({
    id: String(place),
    event: { type: 'a.b', data: Buffer.from(String(place)), metadata: null },
    attemptCount: 0,
  }) as unknown as DeliveryTask;

/** What became of each event, as the sandbox says. */
const results = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 60 }) },
  { weight: 1, arbitrary: fc.constantFrom('cancel' as const, 'fail' as const) },
);
const answerTo = (result: number | 'cancel' | 'fail'): RunResult => {
  if (result === 'fail') return { ok: false, fault: { kind: 'failed', message: 'It failed.' } };
  if (result === 'cancel') return { ok: true, shaped: { body: null, headers: [], cancel: true } };
  return { ok: true, shaped: { body: `"${'x'.repeat(result)}"`, headers: [] } };
};

test('in whatever order the sandbox answers: as many go from the front as fit, and of each event one thing becomes', () => {
  const runs = fc.array(fc.tuple(results, fc.integer(), fc.boolean()), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(runs, fc.integer({ min: 1, max: 200 }), (given, bytesMax) => {
      const asked: { place: number; answer: () => void }[] = [];
      const sandbox: Pick<Sandbox, 'run'> = {
        run(_tenant, _program, { data }: ProgramInput, done) {
          const place = Number(data);
          asked.push({ place, answer: () => done(answerTo(given[place]?.[0] ?? 0)) });
        },
      };
      const tasks = given.map((_, place) => taskOf(place));
      let came: ShapedTogether | undefined;
      if (shaping === null) throw new Error('There is no template.');
      const mayGo = ({ id }: DeliveryTask) => given[Number(id)]?.[2] === true;
      new BatchShaper(sandbox).shape(tasks, target, shaping, bytesMax, mayGo, (shaped) => {
        came = shaped;
      });
      const order = asked.toSorted((a, b) => (given[a.place]?.[1] ?? 0) - (given[b.place]?.[1] ?? 0));
      for (const { answer } of order) {
        expect(came).toBeUndefined();
        answer();
      }
      const { batch, failed, cancelled, left } = came as unknown as ShapedTogether;
      const places = (each: readonly DeliveryTask[]) => each.map(({ id }) => Number(id));
      const of = (isMeant: (result: number | 'cancel' | 'fail', may: boolean) => boolean) =>
        given.flatMap(([result, , may], place) => (isMeant(result, may) ? [place] : []));
      const gone = places(batch?.tasks ?? []);
      expect([...gone, ...places(left)].toSorted((a, b) => a - b)).toEqual(
        of((each, may) => typeof each === 'number' || !may),
      );
      expect(places(failed.map(({ task }) => task))).toEqual(of((each, may) => each === 'fail' && may));
      expect(places(cancelled)).toEqual(of((each, may) => each === 'cancel' && may));
      expect(places(left)).toEqual(places(left).toSorted((a, b) => a - b));
      // Nothing that may go is left before what goes.
      const leftThatMay = places(left.filter(mayGo));
      expect(Math.min(...leftThatMay)).toBeGreaterThan(Math.max(...gone));
      if (batch === undefined) return;
      const { body } = batchBody(batch);
      expect(JSON.parse(body.toString())).toEqual(gone.map((place) => 'x'.repeat(Number(given[place]?.[0]))));
      expect(body.length).toBe(batch.bytes);
      if (gone.length > 1) expect(batch.bytes).toBeLessThanOrEqual(bytesMax);
      // It stopped because the next one would have been too much, with all that were shaped before it.
      const [next] = leftThatMay;
      if (next === undefined) return;
      const before = of((each) => typeof each === 'number').filter((place) => place <= next);
      const bytes = before.reduce((sum, place) => sum + Number(given[place]?.[0]) + 3, 1);
      expect(bytes).toBeGreaterThan(bytesMax);
    }),
  );
});
