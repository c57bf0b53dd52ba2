import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { DEAD_REASONS, ERROR_CLASSES } from './outcome.ts';

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());

test('the reference lists the error classes and the reasons of dead letters wherever they are answered', async () => {
  const { paths, components } = (await posthorn.call('GET', '/openapi.json')).body;
  const { Delivery, Attempt, DeadLetter } = components.schemas;
  for (const shown of [Delivery, Attempt]) expect(shown.properties.error_class.enum).toEqual([...ERROR_CLASSES, null]);
  expect(DeadLetter.properties.reason.enum).toEqual(DEAD_REASONS);
  const answer = paths['/api/v1/analytics/errors'].get.responses['200'].content['application/json'].schema;
  expect(answer.properties.data.items.properties.error_class.enum).toEqual(ERROR_CLASSES);
});
