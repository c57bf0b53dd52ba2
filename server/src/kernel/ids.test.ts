import fc from 'fast-check';
import { TypeID } from 'typeid-js';
import { validate, version } from 'uuid';
import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';
import { createIdSource, firstIdAt, formatId, ID_PREFIXES, type IdKind, parseId, timeOfId } from './ids.ts';

const KINDS = Object.keys(ID_PREFIXES) as IdKind[];
const UUID = '01890a5d-ac96-774b-bcce-b302099a8057';

test('ids are UUIDs of version 7 that carry the time of the clock', () => {
  const newId = createIdSource({ ...systemClock, now: () => 1_772_360_430_456 });
  const id = newId();
  expect([validate(id), version(id), timeOfId(id)]).toEqual([true, 7, 1_772_360_430_456]);
});

test('ids grow within a millisecond and when the clock steps back', () => {
  let now = 1_772_360_430_456;
  const newId = createIdSource({ ...systemClock, now: () => now });
  const ids: string[] = [];
  for (let count = 0; count < 1000; count += 1) {
    if (count === 300) now -= 3_600_000;
    if (count === 600) now += 7_200_000;
    ids.push(newId());
  }
  expect(ids).toEqual([...new Set(ids)].sort());
});

test('two sources at the same millisecond give different ids', () => {
  const clock = { ...systemClock, now: () => 1_772_360_430_456 };
  const [a, b] = [createIdSource(clock), createIdSource(clock)];
  const ids = Array.from({ length: 1000 }, () => [a(), b()]).flat();
  expect(new Set(ids).size).toBe(2000);
});

test('an id is shown as the TypeID of its kind', () => {
  // The vector of the TypeID specification, section "Valid".
  expect(formatId('event', UUID)).toBe('evt_01h455vb4pex5vsknk084sn02q');
});

test('every UUID is written as the library of the specification writes it', () => {
  fc.assert(
    fc.property(fc.uuid(), (uuid) => {
      expect(formatId('delivery', uuid)).toBe(TypeID.fromUUID('dlv', uuid).toString());
    }),
  );
});

test('whatever is formatted is parsed back, by its own kind only', () => {
  fc.assert(
    fc.property(fc.uuid({ version: 7 }), fc.constantFrom(...KINDS), fc.constantFrom(...KINDS), (uuid, kind, other) => {
      const text = formatId(kind, uuid);
      return (
        text.length === 30 && parseId(kind, text) === uuid && (kind === other || parseId(other, text) === undefined)
      );
    }),
  );
});

test.each([
  '',
  'evt_',
  'evt_01h455vb4pex5vsknk084sn02',
  'evt_01h455vb4pex5vsknk084sn02qq',
  'EVT_01h455vb4pex5vsknk084sn02q',
  'evt_01H455VB4PEX5VSKNK084SN02Q',
  'evt-01h455vb4pex5vsknk084sn02q',
  'evt_81h455vb4pex5vsknk084sn02q',
  'evt_zzzzzzzzzzzzzzzzzzzzzzzzzz',
  'evt_01h455vb4pex5vsknk084sn0il',
  'evt_01h455vb4pex5vsknk084sn02\n',
  'evt_01h455vb4pex5vsknk084sn\u0000\u0000\u0000',
  'evt__1h455vb4pex5vsknk084sn02q',
  UUID,
  `evt_${UUID}`,
  '__proto__',
])('%j is no id of an event', (text) => {
  expect(parseId('event', text)).toBeUndefined();
});

test('a text of 100,000 characters is no id', () => {
  expect(parseId('event', `evt_${'0'.repeat(100_000)}`)).toBeUndefined();
});

test('no text that is not an id is taken for one', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 26, maxLength: 26 }), (suffix) => {
      const uuid = parseId('event', `evt_${suffix}`);
      return uuid === undefined || formatId('event', uuid) === `evt_${suffix}`;
    }),
  );
});

test('the first id of a millisecond is not above any id of it, and above every id before it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 281_474_976_710_655 }), (ms) => {
      const first = firstIdAt(ms);
      const at = (timeMs: number) => createIdSource({ ...systemClock, now: () => timeMs })();
      return first <= at(ms) && first > at(ms - 1) && timeOfId(first) === ms;
    }),
  );
  expect(firstIdAt(-5)).toBe('00000000-0000-0000-0000-000000000000');
});
