import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from './errors.ts';
import { jsonTexts, nameText, whitespace } from './raw-json.arbitrary.ts';
import { objectMembers, parseRawJson, type RawJsonLimits } from './raw-json.ts';

const LIMITS: RawJsonLimits = { maxDepth: 64 };
const BATCH_LIMITS: RawJsonLimits = { maxDepth: 64, enclosingLevels: 3 };

const parse = (text: string) => parseRawJson(Buffer.from(text), LIMITS);
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

function failure(body: Buffer | string, limits = LIMITS): AppError {
  try {
    parseRawJson(Buffer.from(body as string), limits);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('The body was accepted.');
}

describe('a member keeps its bytes', () => {
  test.each([
    ['key order', '{"b":1,"a":2,"10":3,"9":4}'],
    ['number spellings', '[1.0,12345678901234567890,1e400,-0,1E+2,0.10]'],
    ['escaped and literal line separators', '"\\u2028\u2028\\/"'],
    ['lone surrogates in escapes', '"\\ud800"'],
    ['NUL in an escape', '"\\u0000"'],
    ['prototype keys', '{"__proto__":{"x":1},"constructor":{"prototype":{}}}'],
    ['repeated keys', '{"a":1,"a":2,"\\u0061":3}'],
    ['inner white space', '{ "a" :\t[ 1 ,\r\n2 ] }'],
    ['brackets and quotes in strings', '{"a":"}]\\"{[\\\\","b":"\\\\"}'],
  ])('%s', (_, data) => {
    expect(parse(`{"type":"x","data":${data},"z":0}`).member('data')?.toString()).toBe(data);
    expect(parse(` {\n"data" : ${data}\t} `).member('data')?.toString()).toBe(data);
    const [first, second] = parse(`{"events":[ ${data} ,{"data": ${data} }]}`).elements('events') ?? [];
    expect(first?.bytes.toString()).toBe(data);
    expect(second?.member('data')?.toString()).toBe(data);
  });

  test('of two members with one name the last is given, as JSON.parse does', () => {
    const json = parse('{"data":1,"d\\u0061ta":[2],"dat":3}');
    expect(json.member('data')?.toString()).toBe('[2]');
    expect(json.value).toEqual({ data: [2], dat: 3 });
    expect(parse('{"d\\u0061ta":1,"data":[2]}').member('data')?.toString()).toBe('[2]');
  });

  test('a name is compared after its escapes and its UTF-8 are read', () => {
    const json = parse('{"\\u00e9":1,"\\ud83d\\ude00":3,"Ã©":4,"\\"":5}');
    expect(parse('{"\\u00AF\\u4f9E\\uDBff":1}').member('\u00af\u4f9e\udbff')?.toString()).toBe('1');
    expect(json.member('é')?.toString()).toBe('1');
    expect(json.member('😀')?.toString()).toBe('3');
    expect(json.member('Ã©')?.toString()).toBe('4');
    expect(json.member('"')?.toString()).toBe('5');
    expect(parse('{"\\b\\f\\n\\r\\t\\/\\\\\\u00e9é":6}').member('\b\f\n\r\t/\\éé')?.toString()).toBe('6');
    expect(parse('{"é":2}').member('é')?.toString()).toBe('2');
    expect(parse('{"é":2}').member('Ã©')).toBeUndefined();
  });

  test('names that every object has are not members unless they were sent', () => {
    const json = parse('{"a":1}');
    for (const name of ['__proto__', 'toString', 'constructor', 'hasOwnProperty', '', 'aa']) {
      expect(json.member(name)).toBeUndefined();
      expect(json.elements(name)).toBeUndefined();
    }
    expect(parse('{"__proto__":[7]}').elements('__proto__')?.[0]?.value).toBe(7);
  });

  test('a text that is no object has no members', () => {
    for (const text of ['null', 'true', '1', '"data"', '[]', '[{"data":1}]', ' "" ']) {
      expect(parse(text).member('data')).toBeUndefined();
      expect(parse(text).bytes.toString()).toBe(text.trim());
    }
  });

  test('elements without a name are those of the array that it is', () => {
    const elements = parse(' [ 1.0, {"a":[2]} ,[]] ').elements() ?? [];
    expect(elements.map(({ bytes }) => String(bytes))).toEqual(['1.0', '{"a":[2]}', '[]']);
    expect(elements[1]?.elements('a')?.[0]?.value).toBe(2);
    expect(parse('[]').elements()).toEqual([]);
    for (const text of ['{"0":1}', '7', 'null', '"ab"']) expect(parse(text).elements()).toBeUndefined();
  });

  test('elements are given for an array member only', () => {
    expect(parse('{"events":{"0":1,"length":1}}').elements('events')).toBeUndefined();
    expect(parse('{"events":"ab"}').elements('events')).toBeUndefined();
    expect(parse('{"events":[ ]}').elements('events')).toEqual([]);
    expect(
      parse('{"events":[1],"events":[2,3]}')
        .elements('events')
        ?.map((each) => each.value),
    ).toEqual([2, 3]);
  });

  test('every slice of every text is what JSON.parse read there', () => {
    const members = fc.array(fc.tuple(nameText(), jsonTexts.value, whitespace()), { maxLength: 6 });
    fc.assert(
      fc.property(members, whitespace(), (list, space) => {
        const text = `${space}{${list.map(([name, value, pad]) => `${pad}${name}${pad}:${pad}${value}${pad}`).join(',')}}`;
        const json = parse(text);
        expect(json.value).toEqual(JSON.parse(text));
        const last = new Map(list.map(([name, value]) => [JSON.parse(name) as string, value]));
        for (const [name, value] of last) expect(json.member(name)?.toString()).toBe(value);
      }),
      { numRuns: 500 },
    );
  });

  test('the elements of a batch are the texts that were joined into it', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(jsonTexts.value, whitespace()), { maxLength: 6 }), (list) => {
        const events = list.map(([value, pad]) => `${pad}{"data":${pad}${value}${pad}}${pad}`);
        const batch = parseRawJson(Buffer.from(`{"events":[${events.join(',')}]}`), BATCH_LIMITS);
        const elements = batch.elements('events') ?? [];
        expect(elements.map((each) => each.bytes.toString())).toEqual(events.map((event) => event.trim()));
        expect(elements.map((each) => each.member('data')?.toString())).toEqual(list.map(([value]) => value));
        expect(elements.map((each) => each.value)).toEqual(events.map((event) => JSON.parse(event)));
      }),
      { numRuns: 300 },
    );
  });
});

describe('nesting', () => {
  test('data of exactly 64 levels passes alone and in a batch, and 65 levels do not', () => {
    for (const data of [nested(64), `${'{"a":'.repeat(64)}1${'}'.repeat(64)}`]) {
      expect(parse(`{"data":${data}}`).member('data')?.toString()).toBe(data);
      expect(failure(`{"data":[${data}]}`)).toMatchObject({
        status: 422,
        code: 'too_deep',
        details: { max_depth: 64, fields: [{ path: 'body', message: 'must be nested at most 64 levels deep' }] },
      });

      const batch = `{"events":[{"data":1},{"data":${data}}]}`;
      expect(parseRawJson(Buffer.from(batch), BATCH_LIMITS).elements('events')?.[1]?.member('data')?.toString()).toBe(
        data,
      );
      expect(failure(`{"events":[{"data":[${data}]}]}`, BATCH_LIMITS).code).toBe('too_deep');
    }
  });

  test('the level is found wherever it stands, and brackets in strings are none', () => {
    expect(failure(nested(66)).code).toBe('too_deep');
    expect(failure(`{"a":1,"b":[0,{"c":${nested(63)}}]}`).code).toBe('too_deep');
    expect(parse(`{"a":${JSON.stringify('[{'.repeat(5000))},"b":[[],[],${nested(63)}]}`).member('b')).toBeDefined();
    const exact = { maxDepth: 1, enclosingLevels: 0 };
    expect(parseRawJson(Buffer.from('{"a":1}'), exact).member('a')).toBeDefined();
    expect(failure('{"a":[]}', exact).code).toBe('too_deep');
    expect(failure('{}', { maxDepth: 0, enclosingLevels: 0 }).code).toBe('too_deep');
  });

  test('a megabyte of opening brackets is refused by its depth, whether or not it is JSON', () => {
    for (const text of ['['.repeat(1e6), '{"a":'.repeat(2e5), `{"a":${'[{"b":'.repeat(2e5)}`]) {
      expect(failure(text).code).toBe('too_deep');
    }
  });
});

describe('a body that cannot be read', () => {
  test.each([
    ['overlong', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['cut off', [0x22, 0xe2, 0x80, 0x22]],
    ['UTF-16', [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]],
  ])('is refused when its UTF-8 is %s', (_, bytes) => {
    expect(failure(Buffer.from(bytes))).toMatchObject({ status: 400, code: 'malformed_request' });
  });

  test('is refused when it is empty', () => {
    for (const text of ['', ' \r\n\t', '\ufeff', '\ufeff ']) {
      expect(failure(text)).toMatchObject({ status: 400, message: 'The body is empty; JSON was expected.' });
    }
  });

  test('a byte order mark before it is skipped, and only there and once', () => {
    expect(parse('\ufeff {"data":1.0}').member('data')?.toString()).toBe('1.0');
    expect(parse('\ufeff[1]').bytes.toString()).toBe('[1]');
    expect(failure('\ufeff\ufeff1').message).toContain('byte 3');
    expect(failure('{"a":\ufeff1}').message).toContain('byte 5');
  });

  test('the message says where the fault is and repeats nothing of the body', () => {
    expect(failure('{"password":hunter2}').message).toBe(
      'The body is not valid JSON: unexpected character at byte 12.',
    );
    expect(failure('{"é":hunter2}').message).toContain('byte 6');
    expect(failure('{"password":"hunter2').message).toBe('The body is not valid JSON: it ends too early, at byte 20.');
    expect(failure('\0').message).toContain('byte 0');
    expect(failure('{"a":"\0"}').message).toContain('byte 6');
    for (const text of ['{"password":hunter2}', '"hunter2'])
      expect(JSON.stringify(failure(text))).not.toContain('hunt');
    expect(failure('"hunter2').cause).toBeUndefined();
  });

  test('whatever JSON.parse refuses is refused, and nothing else', () => {
    const change = fc.record({
      at: fc.nat(40),
      remove: fc.nat(2),
      insert: fc.constantFrom(
        '',
        '{',
        '}',
        '[',
        ']',
        '"',
        '\\',
        ',',
        ':',
        '0',
        '-',
        '.',
        'e',
        'u',
        't',
        '\0',
        '\u00a0',
        'é',
      ),
    });
    fc.assert(
      fc.property(jsonTexts.value, change, (valid, { at, remove, insert }) => {
        const text = (valid.slice(0, at) + insert + valid.slice(at + remove)).toWellFormed();
        let value: unknown;
        try {
          value = JSON.parse(text);
        } catch {
          expect(failure(text).status).toBe(400);
          return;
        }
        expect(parse(text).value).toEqual(value);
      }),
      { numRuns: 1500 },
    );
  });
});

describe('time is linear in the body', () => {
  // A busy machine needs a tenth of this; what grows with the square of the body needs a multiple.
  const limitMs = 3000;
  const members = (count: number, member: string) => `{${Array.from({ length: count }, () => member).join(',')}}`;

  test.each([
    ['one huge string', `{"data":"${'x'.repeat(2e6)}"}`],
    ['a string of escaped quotes', `{"data":"${'\\"'.repeat(1e6)}"}`],
    ['100,000 members', members(1e5, '"a":1')],
    ['100,000 escaped names', members(1e5, '"d\\u0061t":1')],
    ['a huge name', `{"data":1,"${'dat\\u0061'.repeat(2e5)}":1}`],
    ['white space', `{${' '.repeat(2e6)}}`],
    ['a fault behind a megabyte', `${' '.repeat(1e6)}{"a":"${'x'.repeat(1e6)}`],
    ['numbers', `{"data":[${'1,'.repeat(5e5)}1]}`],
  ])('%s', (_, text) => {
    const body = Buffer.from(text);
    const started = performance.now();
    try {
      const json = parseRawJson(body, LIMITS);
      for (let call = 0; call < 8; call += 1) json.member('data');
    } catch (error) {
      expect(error).toBeInstanceOf(AppError);
    }
    expect(performance.now() - started).toBeLessThan(limitMs);
  });

  test('a batch of 20,000 elements, each asked for a member', () => {
    const body = Buffer.from(`{"events":[${Array.from({ length: 20_000 }, () => '{"data":{"a":[1,2]}}').join(',')}]}`);
    const started = performance.now();
    const elements = parseRawJson(body, BATCH_LIMITS).elements('events') ?? [];
    expect(elements.filter((each) => each.member('data')?.toString() === '{"a":[1,2]}')).toHaveLength(20_000);
    expect(performance.now() - started).toBeLessThan(limitMs);
  });
});

describe('objectMembers', () => {
  const inner = (text: string, ...except: string[]) => objectMembers(Buffer.from(text), except)?.toString();

  test('gives what stands between the braces, unchanged', () => {
    expect(inner(' { "a" : 1.0 ,\n"b":{"a":2} } ', 'c')).toBe('"a" : 1.0 ,\n"b":{"a":2}');
    expect(inner('{ }')).toBe('');
  });

  test('leaves out the named members of the top level, however they are spelled and however often they stand', () => {
    expect(inner('{"a":1,"b":{"a":2},"\\u0061":3,"c":[1.0]}', 'a')).toBe('"b":{"a":2},"c":[1.0]');
    expect(inner('{"a":1 , "a":2}', 'a')).toBe('');
    expect(inner('{"a":1,"b":2,"c":3}', 'c', 'a')).toBe('"b":2');
  });

  test('is undefined for anything that is not an object', () => {
    for (const text of ['null', '[1]', '"{}"', '1', '']) expect(inner(text)).toBeUndefined();
  });
});
