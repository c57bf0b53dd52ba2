import { Type } from 'typebox';
import { describe, expect, test } from 'vitest';
import { compileBody, compileBodyProblems, compileTextProblems } from './validation.ts';

const Body = Type.Object(
  {
    name: Type.String(),
    events: Type.Optional(Type.Array(Type.String(), { maxItems: 200 })),
    limit: Type.Optional(Type.Integer({ default: 50 })),
  },
  { additionalProperties: false },
);
const problems = compileBodyProblems(Body);
const pathsOf = (data: unknown) => problems(data)?.map(({ instancePath, params }) => [instancePath, params]);

describe('what is wrong with a request', () => {
  test('is nothing, and defaults are filled in', () => {
    const body = { name: 'a' };
    expect(problems(body)).toBeUndefined();
    expect(body).toEqual({ name: 'a', limit: 50 });
  });

  test('is told whole where it is little', () => {
    expect(pathsOf({ events: ['a', 1, 2], more: true })).toEqual([
      ['', { missingProperty: 'name' }],
      ['', { additionalProperty: 'more' }],
      ['/events/1', { type: 'string' }],
      ['/events/2', { type: 'string' }],
    ]);
  });

  test('is told but for the first thing where it may be half a million', () => {
    expect(pathsOf({ name: 'a', events: Array(500_000).fill(1) })).toHaveLength(1);
    expect(pathsOf(Object.fromEntries(Array.from({ length: 50_000 }, (_, at) => [`k${at}`, {}])))).toHaveLength(1);
  });

  test('is told of the next request, whatever the one before was', () => {
    problems({ name: 1 });
    expect(problems({ name: 'a' })).toBeUndefined();
    expect(pathsOf({ name: null })).toEqual([['/name', { type: 'string' }]]);
  });

  test('is not asked for where yes or no is enough', () => {
    const isBody = compileBody<{ name: string }>(Body);
    expect([isBody({ name: 'a' }), isBody({ name: 1, more: 2 })]).toEqual([true, false]);
  });

  test('texts of a query become what the schema says', () => {
    const query = { name: 'a', limit: '7' };
    expect(compileTextProblems(Body)(query)).toBeUndefined();
    expect(query).toEqual({ name: 'a', limit: 7 });
    expect(compileTextProblems(Body)({ limit: 'x' })).toHaveLength(2);
  });
});
