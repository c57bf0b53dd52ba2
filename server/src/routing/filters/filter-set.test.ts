import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { FILTER_OPERATORS, type Filter, type FilterMode, type FilterOperator } from './filter.ts';
import { compileFilters, storedFilters } from './filter-set.ts';
import { FilteredEvent } from './filtered-event.ts';

const NOW = Date.parse('2030-01-15T12:00:00.000Z');

function eventOf(data: string, rest: Partial<ConstructorParameters<typeof FilteredEvent>[0]> = {}): FilteredEvent {
  const metadata = Buffer.from('{"source_service":"leads","big":9007199254740993}');
  const content = { type: 'lead.created', eventId: 'L-1', occurredAtMs: NOW, data: Buffer.from(data), metadata };
  return new FilteredEvent({ ...content, ...rest });
}

function filterOf(field_path: string, operator: FilterOperator, value?: unknown, case_sensitive = true): Filter {
  return { field_path, operator, case_sensitive, ...(value !== undefined && { value }) };
}

function matches(event: FilteredEvent, filters: Filter[], mode: FilterMode = 'all'): boolean {
  const compiled = compileFilters(filters, mode);
  if (!compiled.ok) throw new Error(compiled.problems.map(({ path, message }) => `${path} ${message}`).join('; '));
  return compiled.set?.matches(event) ?? true;
}

function problemsOf(...filters: Filter[]): Record<string, string> {
  const compiled = compileFilters(filters, 'all');
  return compiled.ok ? {} : Object.fromEntries(compiled.problems.map(({ path, message }) => [path, message]));
}

const LEAD = `{"lead":{"score":85,"name":"John Doe","email":"John.Doe@Example.com","tags":["VIP","eu",7],"notes":null,
  "active":true,"since":"2025-08-05T17:30:00Z","size":"120","id":9007199254740993,"rate":1.50,"zip":"007",
  "address":{"city":"Köln"},"": "empty","a.b":"dotted","__proto__":"own","0":"zero","street":"Hauptstraße 1"},
  "items":[{"sku":"A-1","price":9.5},{"sku":"B-2","price":30}],"empty":[],"matrix":[[1,2],[3]],"list":["x","y"]}`;

test.each(['2025-02-30T00:00:00Z', '2025-04-31T00:00:00+02:00', '2025-02-29T12:00:00Z', '2025-03-01T24:00:00Z'])(
  '%s is no time, since there is no such day or hour',
  (text) => {
    const after = filterOf('t', 'greater_than', '2025-01-01T00:00:00Z');
    expect(matches(eventOf(`{"t":"${text}"}`), [after])).toBe(false);
    expect(matches(eventOf('{"t":"2024-02-29T23:59:59.5-01:00"}'), [after])).toBe(false);
    expect(matches(eventOf('{"t":"2028-02-29T23:59:59.5-01:00"}'), [after])).toBe(true);
  },
);

describe('what each operator makes of each type', () => {
  const cases: [path: string, operator: FilterOperator, value: unknown, expected: boolean, caseSensitive?: boolean][] =
    [
      // As call-center.md prints it.
      ['data.lead.score', 'greater_than', 80, true, false],
      ['data.lead.score', 'greater_than', 85, false, false],

      // Numbers, however they are spelled
      ['lead.score', 'equals', 85, true],
      ['lead.score', 'equals', 85.0, true],
      ['lead.score', 'equals', '85', true],
      ['lead.score', 'equals', '8.5e1', true],
      ['lead.score', 'equals', ' 85', false],
      ['lead.size', 'equals', 120, true],
      ['lead.size', 'equals', '120', true],
      ['lead.size', 'equals', '120.0', false],
      ['lead.rate', 'equals', 1.5, true],
      ['lead.zip', 'equals', 7, false],
      ['lead.zip', 'equals', '007', true],
      ['lead.id', 'equals', '9007199254740993', true],
      ['lead.id', 'equals', '9007199254740992', false],
      ['lead.id', 'greater_than', '9007199254740992', true],
      ['lead.id', 'less_than', '9007199254740994', true],
      ['lead.id', 'in', ['9007199254740992', '9007199254740994'], false],
      ['lead.id.text', 'equals', '9007199254740993', false],
      ['metadata.big.text', 'exists', undefined, false],
      ['metadata.big', 'equals', '9007199254740993', true],
      ['metadata.big', 'equals', '9007199254740992', false],
      ['lead.score', 'not_equals', 85, false],
      ['lead.score', 'not_equals', 84, true],

      // true, false and null are only themselves; what is absent is nothing
      ['lead.active', 'equals', true, true],
      ['lead.active', 'equals', 'true', false],
      ['lead.active', 'equals', 1, false],
      ['lead.active', 'not_equals', false, true],
      ['lead.notes', 'equals', null, true],
      ['lead.notes', 'equals', '', false],
      ['lead.notes', 'equals', 0, false],
      ['lead.absent', 'equals', null, false],
      ['lead.absent', 'not_equals', null, true],
      ['lead.absent', 'not_equals', 'x', true],
      ['lead.score', 'equals', true, false],
      ['lead.score', 'equals', null, false],

      // Texts
      ['lead.name', 'equals', 'John Doe', true],
      ['lead.name', 'equals', 'john doe', false],
      ['lead.name', 'equals', 'john doe', true, false],
      ['lead.street', 'equals', 'HAUPTSTRASSE 1', true, false],
      ['lead.street', 'equals', 'HAUPTSTRAẞE 1', true, false],
      ['lead.street', 'equals', 'HAUPTSTRAẞE 1', false],
      ['lead.street', 'contains', 'straẞe', true, false],
      ['lead.street', 'in', ['HAUPTSTRAẞE 1'], true, false],
      ['lead.address.city', 'equals', 'KÖLN', true, false],
      ['lead.address', 'equals', 'Köln', false],
      ['lead.tags', 'equals', 'VIP', false],

      // Order
      ['lead.score', 'greater_than_or_equal', 85, true],
      ['lead.score', 'less_than_or_equal', 85, true],
      ['lead.score', 'greater_than_or_equal', 85.5, false],
      ['lead.score', 'less_than_or_equal', 84.5, false],
      ['lead.score', 'less_than', 85, false],
      ['lead.score', 'less_than', '100', true],
      ['lead.size', 'greater_than', 13, true],
      ['lead.size', 'greater_than', '13', true],
      ['lead.name', 'greater_than', 13, false],
      ['lead.name', 'less_than', 13, false],
      ['lead.name', 'greater_than', 'Jim', true],
      ['lead.name', 'greater_than', 'jim', false],
      ['lead.name', 'greater_than', 'jim', true, false],
      ['lead.active', 'greater_than', 0, false],
      ['lead.notes', 'less_than', 1, false],
      ['lead.absent', 'less_than', 1, false],
      ['lead.tags', 'greater_than', 0, false],
      ['lead.score', 'greater_than', 'a', false],
      ['lead.since', 'greater_than', '2025-08-05T19:00:00+02:00', true],
      ['lead.since', 'less_than_or_equal', '2025-08-05T19:30:00.000+02:00', true],
      ['lead.name', 'greater_than', '2025-08-05T19:00:00+02:00', false],
      ['timestamp', 'greater_than_or_equal', '2030-01-15T13:00:00+01:00', true],

      // Parts
      ['lead.email', 'contains', 'Doe@', true],
      ['lead.email', 'contains', 'doe@example', false],
      ['lead.email', 'contains', 'doe@example', true, false],
      ['lead.email', 'not_contains', 'doe@example', false, false],
      ['lead.score', 'contains', '8', false],
      ['lead.name', 'contains', 8, false],
      ['lead.tags', 'contains', 'VIP', true],
      ['lead.tags', 'contains', 'vip', false],
      ['lead.tags', 'contains', 'vip', true, false],
      ['lead.tags', 'contains', 'V', false],
      ['lead.tags', 'contains', 7, true],
      ['lead.tags', 'contains', '7', true],
      ['lead.tags', 'not_contains', 'VIP', false],
      ['lead.tags', 'not_contains', 'us', true],
      ['lead.address', 'contains', 'city', false],
      ['lead.absent', 'contains', 'x', false],
      ['lead.absent', 'not_contains', 'x', true],
      ['empty', 'contains', 1, false],
      ['lead.email', 'starts_with', 'John', true],
      ['lead.email', 'starts_with', 'john', false],
      ['lead.email', 'starts_with', 'john', true, false],
      ['lead.street', 'starts_with', 'HAUPTSTRASS', true, false],
      ['lead.email', 'ends_with', '.com', true],
      ['lead.email', 'ends_with', '.COM', false],
      ['lead.email', 'ends_with', '.COM', true, false],
      ['lead.street', 'ends_with', 'strasse 1', true, false],
      ['lead.score', 'starts_with', '8', false],
      ['lead.tags', 'ends_with', 'VIP', false],

      // Lists
      ['lead.score', 'in', [1, '85'], true],
      ['lead.name', 'in', ['jane', 'john doe'], false],
      ['lead.name', 'in', ['jane', 'john doe'], true, false],
      ['lead.name', 'not_in', ['jane', 'john doe'], false, false],
      ['lead.notes', 'in', [null], true],
      ['lead.absent', 'in', [null], false],
      ['lead.absent', 'not_in', ['x'], true],
      ['lead.tags', 'in', ['VIP'], false],
      ['lead.tags.*', 'in', ['VIP'], true],

      // There or not
      ['lead.notes', 'exists', undefined, true],
      ['lead.notes', 'not_exists', undefined, false],
      ['lead.absent', 'exists', undefined, false],
      ['lead.absent', 'not_exists', undefined, true],
      ['lead.absent.deeper', 'not_exists', undefined, true],
      ['lead.name.length', 'exists', undefined, false],
      ['lead.tags.length', 'exists', undefined, false],
      ['lead.constructor', 'exists', undefined, false],
      ['lead.__proto__', 'equals', 'own', true],
      ['empty', 'exists', true, true],
      ['empty.*', 'exists', null, false],

      // Regular expressions, found anywhere
      ['lead.name', 'matches', 'D.e$', true],
      ['lead.name', 'matches', '^d.e$', false],
      ['lead.name', 'matches', '^john\\s+doe$', true, false],
      ['lead.name', 'matches', '^john\\s+doe$', false],
      ['lead.score', 'matches', '85', false],
      ['lead.tags.*', 'matches', '^e.$', true],
      ['lead.absent', 'matches', '.*', false],

      // Paths
      ['$', 'exists', undefined, true],
      ['data', 'exists', undefined, true],
      ['data.items.0.sku', 'equals', 'A-1', true],
      ['items.1.sku', 'equals', 'A-1', false],
      ['items[1].sku', 'equals', 'B-2', true],
      ['items.2.sku', 'exists', undefined, false],
      ['items.00.sku', 'exists', undefined, false],
      ['items.-1.sku', 'exists', undefined, false],
      ['items.sku', 'exists', undefined, false],
      ['items.*.sku', 'equals', 'B-2', true],
      ['items[*].sku', 'equals', 'C-3', false],
      ['items.*.sku', 'not_equals', 'B-2', false],
      ['items.*.sku', 'not_equals', 'C-3', true],
      ['items.*.price', 'greater_than', 20, true],
      ['items.*.price', 'greater_than', 30, false],
      ['items.*.absent', 'not_exists', undefined, true],
      ['matrix.*.*', 'equals', 3, true],
      ['matrix.*.0', 'equals', 3, true],
      ['lead.*', 'exists', undefined, false],
      ['lead.0', 'equals', 'zero', true],
      ['lead[0]', 'exists', undefined, false],
      ['lead["a.b"]', 'equals', 'dotted', true],
      ['lead[""]', 'equals', 'empty', true],
      ['list', 'contains', 'y', true],

      // Around the data
      ['event_type', 'equals', 'lead.created', true],
      ['event_type', 'starts_with', 'lead.', true],
      ['event_id', 'equals', 'L-1', true],
      ['event_type.x', 'exists', undefined, false],
      ['metadata.source_service', 'in', ['leads'], true],
      ['metadata.other', 'exists', undefined, false],
      ['type', 'exists', undefined, false],
    ];
  test.each(cases)('%s %s %j: %s (case sensitive: %s)', (path, operator, value, expected, caseSensitive = true) => {
    expect(matches(eventOf(LEAD), [filterOf(path, operator, value, caseSensitive)])).toBe(expected);
  });

  it('has a case for each operator, with both answers', () => {
    for (const operator of FILTER_OPERATORS) {
      const answers = new Set(cases.filter(([, each]) => each === operator).map(([, , , expected]) => expected));
      expect([operator, answers.size]).toEqual([operator, 2]);
    }
  });

  it.each(['7', '"7"', 'null', '[7]'])('asks data that is no object: %s', (data) => {
    expect(matches(eventOf(data), [filterOf('data', 'equals', 7)])).toBe(data === '7' || data === '"7"');
    expect(matches(eventOf(data), [filterOf('data', 'exists')])).toBe(true);
    expect(matches(eventOf(data), [filterOf('x', 'exists')])).toBe(false);
  });

  it('finds no event_id and no metadata where the publisher gave none', () => {
    const event = eventOf('{}', { eventId: null, metadata: null });
    expect(matches(event, [filterOf('event_id', 'exists')])).toBe(false);
    expect(matches(event, [filterOf('metadata.x', 'exists')])).toBe(false);
  });
});

describe('numbers beyond what a double holds', () => {
  // As decimals of any size: scaled to integers.
  const spelled = fc
    .tuple(fc.bigInt({ min: -(10n ** 25n), max: 10n ** 25n }), fc.integer({ min: -20, max: 20 }))
    .map(([digits, exponent]) => ({ text: `${digits}e${exponent}`, scaled: digits * 10n ** BigInt(exponent + 20) }));
  it('compares them as the decimals that they are', () => {
    fc.assert(
      fc.property(spelled, spelled, (one, other) => {
        const event = () => eventOf(`{"n":${one.text}}`);
        const says = (operator: FilterOperator) => matches(event(), [filterOf('n', operator, other.text)]);
        expect(says('equals')).toBe(one.scaled === other.scaled);
        expect(says('less_than')).toBe(one.scaled < other.scaled);
        expect(says('greater_than_or_equal')).toBe(one.scaled >= other.scaled);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ['1e400', '1e401', true],
    ['-1e400', '1', true],
    ['1e-400', '0', false],
    ['0', '1e-400', true],
    [`1e${'9'.repeat(500)}`, '1e400', false],
    ['1.0000000000000001', '1.0000000000000002', true],
  ])('%s is less than %s: %s', (one, other, expected) => {
    expect(matches(eventOf(`{"n":${one}}`), [filterOf('n', 'less_than', other)])).toBe(expected);
  });

  it('takes the parsed data when there is some, and the text where it has to', () => {
    const data = Buffer.from('{"n":9007199254740993,"m":5}');
    const event = new FilteredEvent({
      type: 't',
      eventId: null,
      occurredAtMs: 0,
      data,
      dataValue: JSON.parse(data.toString()),
      metadata: null,
    });
    expect(matches(event, [filterOf('m', 'equals', 5), filterOf('n', 'equals', '9007199254740993')])).toBe(true);
  });
});

describe('filters together', () => {
  const scalar = fc.oneof(
    fc.constantFrom('a', 'A', 'ab', '', '7', 'ß', 'SS', '2030-01-01T00:00:00Z'),
    fc.integer({ min: -3, max: 9 }),
    fc.boolean(),
    fc.constant(null),
  );
  const json = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, scalar, fc.array(tie('value'), { maxLength: 3 }), tie('object')),
    object: fc.dictionary(fc.constantFrom('a', 'b', '0'), tie('value'), { maxKeys: 3 }),
  })).object;
  const path = fc
    .array(fc.constantFrom('a', 'b', '0', '*'), { minLength: 1, maxLength: 3 })
    .map((steps) => `data.${steps.join('.')}`);
  const pair = fc.oneof(
    fc.tuple(fc.constant(['equals', 'not_equals'] as const), scalar),
    fc.tuple(
      fc.constant(['contains', 'not_contains'] as const),
      scalar.filter((value) => value !== ''),
    ),
    fc.tuple(fc.constant(['in', 'not_in'] as const), fc.array(scalar, { minLength: 1, maxLength: 3 })),
    fc.tuple(fc.constant(['exists', 'not_exists'] as const), fc.constant(undefined)),
  );

  it('a negated operator is always the opposite of its positive one', () => {
    fc.assert(
      fc.property(json, path, pair, fc.boolean(), (data, at, [[positive, negative], value], caseSensitive) => {
        const event = eventOf(JSON.stringify(data));
        const says = (operator: FilterOperator) => matches(event, [filterOf(at, operator, value, caseSensitive)]);
        expect(says(negative)).toBe(!says(positive));
      }),
      { numRuns: 1_000 },
    );
  });

  it('all is every one of them, any is one of them, and the opposite of all is any of the opposites', () => {
    const filter = fc.tuple(path, pair, fc.integer({ min: 0, max: 1 }));
    fc.assert(
      fc.property(json, fc.array(filter, { minLength: 1, maxLength: 5 }), (data, list) => {
        const event = eventOf(JSON.stringify(data));
        const made = list.map(([at, [operators, value], which]) =>
          filterOf(at, operators[which] as FilterOperator, value),
        );
        const opposite = list.map(([at, [operators, value], which]) =>
          filterOf(at, operators[1 - which] as FilterOperator, value),
        );
        const alone = made.map((each) => matches(event, [each]));
        expect(matches(event, made, 'all')).toBe(alone.every(Boolean));
        expect(matches(event, made, 'any')).toBe(alone.some(Boolean));
        expect(matches(event, made, 'all')).toBe(!matches(event, opposite, 'any'));
      }),
      { numRuns: 1_000 },
    );
  });

  it('a comparison is never both, and equals is greater or equal and less or equal, for what can be compared', () => {
    fc.assert(
      fc.property(fc.integer({ min: -5, max: 5 }), fc.integer({ min: -5, max: 5 }), (one, other) => {
        const says = (operator: FilterOperator) => matches(eventOf(`[${one}]`), [filterOf('0', operator, other)]);
        expect(says('greater_than')).toBe(!says('less_than_or_equal'));
        expect(says('less_than')).toBe(!says('greater_than_or_equal'));
        expect(says('equals')).toBe(says('greater_than_or_equal') && says('less_than_or_equal'));
      }),
    );
  });

  it('without a filter there is nothing to ask', () => {
    expect(compileFilters([], 'any')).toEqual({ ok: true, set: null });
    expect(storedFilters([], 'all', () => {})).toBeNull();
    expect(storedFilters(null, 'all', () => {})).toBeNull();
  });

  it('stored filters that cannot be read let everything through, and say so once', () => {
    let told = 0;
    const set = storedFilters([filterOf('a', 'sounds_like' as FilterOperator, 'x')], 'all', () => {
      told += 1;
    });
    expect(told).toBe(0);
    expect([set?.matches(eventOf('{}')), set?.matches(eventOf('{}'))]).toEqual([true, true]);
    expect(told).toBe(1);
  });
});

describe('what is refused', () => {
  it.each<[string, Filter, string, RegExp]>([
    ['an empty step', filterOf('a..b', 'exists'), 'filters.0.field_path', /./],
    ['**', filterOf('a.**.b', 'exists'), 'filters.0.field_path', /\*\*/],
    ['17 steps', filterOf(Array(17).fill('a').join('.'), 'exists'), 'filters.0.field_path', /16 steps/],
    ['a path of 257 characters', filterOf('a'.repeat(257), 'exists'), 'filters.0.field_path', /256/],
    ['no value', filterOf('a', 'equals'), 'filters.0.value', /must be a text, a number/],
    ['an object', filterOf('a', 'equals', {}), 'filters.0.value', /must be a text, a number/],
    ['a list', filterOf('a', 'equals', [1]), 'filters.0.value', /must be a text, a number/],
    ['a number that was rounded', filterOf('a', 'equals', 2 ** 53), 'filters.0.value', /write it as a text/],
    ['a text too long', filterOf('a', 'contains', 'x'.repeat(1_025)), 'filters.0.value', /1024/],
    ['NUL', filterOf('a', 'equals', 'x\0'), 'filters.0.value', /NUL/],
    ['half a character', filterOf('a', 'equals', '\ud800'), 'filters.0.value', /surrogate/],
    ['an empty part', filterOf('a', 'contains', ''), 'filters.0.value', /empty/],
    ['an empty beginning', filterOf('a', 'starts_with', ''), 'filters.0.value', /empty/],
    ['a beginning that is a number', filterOf('a', 'ends_with', 4), 'filters.0.value', /must be a text/],
    ['true as a bound', filterOf('a', 'greater_than', true), 'filters.0.value', /number or a text/],
    ['null as a bound', filterOf('a', 'less_than', null), 'filters.0.value', /number or a text/],
    ['in without a list', filterOf('a', 'in', 'x'), 'filters.0.value', /list of 1 to 100/],
    ['an empty list', filterOf('a', 'not_in', []), 'filters.0.value', /list of 1 to 100/],
    ['101 values', filterOf('a', 'in', Array(101).fill(1)), 'filters.0.value', /list of 1 to 100/],
    ['an object in a list', filterOf('a', 'in', [1, {}]), 'filters.0.value.1', /must be a text, a number/],
    ['exists with false', filterOf('a', 'exists', false), 'filters.0.value', /not_exists/],
    ['not_exists with a text', filterOf('a', 'not_exists', 'x'), 'filters.0.value', /exists/],
    ['no regular expression', filterOf('a', 'matches', '('), 'filters.0.value', /not a regular expression/],
    ['a look ahead', filterOf('a', 'matches', 'a(?=b)'), 'filters.0.value', /linear time/],
    ['a back reference', filterOf('a', 'matches', '(a)\\1'), 'filters.0.value', /linear time/],
    ['a large program', filterOf('a', 'matches', '(\\w{20}){20}'), 'filters.0.value', /complex/],
    ['a long expression', filterOf('a', 'matches', `x${'|y'.repeat(512)}`), 'filters.0.value', /1024|long/],
  ])('%s', (_name, filter, path, message) => {
    expect(problemsOf(filter)).toEqual({ [path]: expect.stringMatching(message) });
  });

  it('tells all that is wrong, each with its place', () => {
    const good = filterOf('a', 'exists');
    expect(Object.keys(problemsOf(good, filterOf('a', 'equals'), filterOf('', 'exists')))).toEqual([
      'filters.1.value',
      'filters.2.field_path',
    ]);
  });

  it('regular expressions that are too complex together, although each alone would do', () => {
    const one = filterOf('a', 'matches', '[a-z]{20}[0-9]{20}');
    expect(problemsOf(one)).toEqual({});
    expect(Object.keys(problemsOf(one, one, one, one))).toEqual(['filters.3.value']);
  });
});
