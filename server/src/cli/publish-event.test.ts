import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CommandError } from './command-error.ts';
import { eventBody } from './publish-event.ts';

/** Any code points, lone surrogates and control characters too. */
const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code)) });

function bodyOf(data: string, eventId?: string): string {
  return eventBody({ eventType: 'a.b', data: Buffer.from(data), ...(eventId !== undefined && { eventId }) }).toString();
}

test('the data goes into the request byte for byte', () => {
  expect(bodyOf('\n {"z":1.0,"a":12345678901234567890, "a":"\\u00e9"}\n')).toBe(
    '{"event_type":"a.b","data":{"z":1.0,"a":12345678901234567890, "a":"\\u00e9"}}',
  );
  expect(bodyOf('null', 'e-1')).toBe('{"event_type":"a.b","event_id":"e-1","data":null}');
});

test('a type or id of any characters stays inside its field', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const body = JSON.parse(eventBody({ eventType: text, eventId: text, data: Buffer.from('1') }).toString());
      expect(body).toEqual({ event_type: text, event_id: text, data: 1 });
    }),
  );
});

test.each([
  ['', 'The data is empty'],
  ['{}, "event_id": "x"', 'The data is not valid JSON: unexpected character at byte 2.'],
  ['{} {}', 'The data is not valid JSON'],
  ["{'a':1}", 'The data is not valid JSON'],
])('data that is not one JSON value is refused before it is sent: %j', (data, message) => {
  expect(() => bodyOf(data)).toThrow(CommandError);
  expect(() => bodyOf(data)).toThrow(message);
});

test('bytes that are not UTF-8 are refused', () => {
  expect(() => eventBody({ eventType: 'a', data: Buffer.from([0x22, 0xff, 0x22]) })).toThrow('not valid UTF-8');
});
