import { describe, expect, it } from 'vitest';
import { ManualClock } from '../../testing/manual-clock.ts';
import {
  KEPT_MS,
  LOOKUP_MS_MAX,
  LOOKUPS_MAX,
  NAMES_MAX,
  type Resolve,
  type Resolved,
  Resolver,
  ZONE_LOOKUPS_MAX,
} from './resolver.ts';

type Answer = (error: string | null, ...addresses: string[]) => void;

/** A name server whose answers the test gives. */
function scripted() {
  const clock = new ManualClock();
  const asked: string[] = [];
  const open = new Map<string, Answer>();
  const lookup: Resolve = (host, _options, callback) => {
    asked.push(host);
    open.set(host, (error, ...addresses) => {
      open.delete(host);
      const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
      callback(error === null ? null : Object.assign(new Error(), { code: error }), found);
    });
  };
  const resolver = new Resolver({ clock, lookup });
  const answers: string[] = [];
  const ask = (host: string): void =>
    resolver.resolve(host, (resolved: Resolved) =>
      answers.push('error' in resolved ? resolved.error.code : resolved.addresses.join()),
    );
  const answer = (host: string, error: string | null, ...addresses: string[]): void => {
    const give = open.get(host);
    if (give === undefined) throw new Error(`${host} is not being asked.`);
    give(error, ...addresses);
  };
  return { clock, asked, open, ask, answer, answers };
}

describe('Resolver', () => {
  it('asks once for all who want to know, and keeps the answer for its time', () => {
    const { clock, asked, ask, answer, answers } = scripted();
    ask('a.example');
    ask('a.example');
    expect(asked).toEqual(['a.example']);
    answer('a.example', null, '8.8.8.8', '2606:4700::1');
    expect(answers).toEqual(['8.8.8.8,2606:4700::1', '8.8.8.8,2606:4700::1']);
    clock.advance(KEPT_MS.found - 1);
    ask('a.example');
    expect(asked).toHaveLength(1);
    expect(answers).toHaveLength(3);
    clock.advance(1);
    ask('a.example');
    expect(asked).toHaveLength(2);
  });

  it.each([
    ['ENOTFOUND', KEPT_MS.noSuchName],
    ['ENODATA', KEPT_MS.noSuchName],
    ['ESERVFAIL', KEPT_MS.failed],
    ['ETIMEOUT', KEPT_MS.failed],
    ['EAI_AGAIN', KEPT_MS.failed],
  ])('keeps %s for %i ms, so that retries do not storm the name server', (code, keptMs) => {
    const { clock, asked, ask, answer, answers } = scripted();
    ask('a.example');
    answer('a.example', code);
    clock.advance(keptMs - 1);
    ask('a.example');
    expect(answers).toEqual([code, code]);
    expect(asked).toHaveLength(1);
    clock.advance(1);
    ask('a.example');
    expect(asked).toHaveLength(2);
  });

  it('takes no answer and a flood of addresses for failures', () => {
    const { ask, answer, answers } = scripted();
    ask('none.example');
    answer('none.example', null);
    ask('flood.example');
    answer('flood.example', null, ...Array.from({ length: 65 }, (_, n) => `8.8.8.${n}`));
    expect(answers).toEqual(['NO_ADDRESS', 'TOO_MANY_ADDRESSES']);
  });

  it('does not wait for a late answer, and keeps it for whoever asks next', () => {
    const { clock, asked, ask, answer, answers } = scripted();
    ask('late.example');
    clock.advance(LOOKUP_MS_MAX);
    expect(answers).toEqual(['LOOKUP_TIMEOUT']);
    ask('late.example');
    expect(asked).toHaveLength(1);
    answer('late.example', null, '8.8.8.8');
    ask('late.example');
    expect(answers).toEqual(['LOOKUP_TIMEOUT', '8.8.8.8', '8.8.8.8']);
    expect(asked).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });

  it('gives one zone a share only, so that its slow names leave the others alone', () => {
    const { asked, ask, answer, answers } = scripted();
    for (let n = 0; n < 1_000; n += 1) ask(`n${n}.slow.example`);
    expect(asked).toHaveLength(ZONE_LOOKUPS_MAX);
    ask('quick.test');
    expect(asked.at(-1)).toBe('quick.test');
    answer('quick.test', null, '8.8.8.8');
    expect(answers).toEqual(['8.8.8.8']);
    answer('n0.slow.example', 'ESERVFAIL');
    expect(asked.at(-1)).toBe(`n${ZONE_LOOKUPS_MAX}.slow.example`);
  });

  it('bounds the lookups of all zones, and lets zones take turns', () => {
    const { asked, ask, answer } = scripted();
    const zones = LOOKUPS_MAX / ZONE_LOOKUPS_MAX + 2;
    for (let zone = 0; zone < zones; zone += 1) {
      for (let n = 0; n < ZONE_LOOKUPS_MAX; n += 1) ask(`n${n}.zone${zone}.example`);
    }
    expect(asked).toHaveLength(LOOKUPS_MAX);
    for (const host of asked.slice(0, 4)) answer(host, 'ENOTFOUND');
    expect(asked.slice(LOOKUPS_MAX).map((host) => host.split('.')[1])).toEqual([
      `zone${zones - 2}`,
      `zone${zones - 1}`,
      `zone${zones - 2}`,
      `zone${zones - 1}`,
    ]);
  });

  it('passes over names that nobody waits for any more', () => {
    const { clock, asked, ask, answer } = scripted();
    for (let n = 0; n < ZONE_LOOKUPS_MAX + 100; n += 1) ask(`n${n}.slow.example`);
    clock.advance(LOOKUP_MS_MAX);
    ask('wanted.slow.example');
    answer('n0.slow.example', 'ESERVFAIL');
    expect(asked.at(-1)).toBe('wanted.slow.example');
    expect(asked).toHaveLength(ZONE_LOOKUPS_MAX + 1);
    ask('n99.slow.example');
    answer('n1.slow.example', 'ESERVFAIL');
    expect(asked.at(-1)).toBe('n99.slow.example');
  });

  it('refuses at once when too many wait, and forgets the names asked least lately', () => {
    const { ask, answers, open, asked } = scripted();
    for (let n = 0; n < 10_000 + ZONE_LOOKUPS_MAX; n += 1) ask(`n${n}.slow.example`);
    expect(answers).toEqual([]);
    ask('one-more.slow.example');
    expect(answers).toEqual(['TOO_MANY_LOOKUPS']);
    ask('another.test');
    expect(asked.at(-1)).toBe('another.test');
    while (open.size > 0) for (const answer of [...open.values()]) answer(null, '8.8.8.8');
    const before = asked.length;
    expect(before).toBe(NAMES_MAX + ZONE_LOOKUPS_MAX + 1);
    ask(`n${before - 2}.slow.example`);
    expect(asked).toHaveLength(before);
    ask('n0.slow.example');
    expect(asked).toHaveLength(before + 1);
  });
});
