import { describe, expect, it } from 'vitest';
import { changeHeaders, type HeaderList, isReservedHeader, maskHeaders } from './headers.ts';

const change = (current: HeaderList, given: Record<string, string | null>) => changeHeaders(current, given);
const problem = (given: Record<string, string | null>, current: HeaderList = []) => {
  const result = changeHeaders(current, given);
  return result.ok ? undefined : result.problems[0]?.message;
};

describe('changeHeaders', () => {
  it('merges by name in any case: what is given replaces, null removes, the rest stays in place', () => {
    expect(change(['X-A', '1', 'X-B', '2', 'X-C', '3'], { 'x-b': 'new', 'X-C': null, 'X-D': '' })).toEqual({
      ok: true,
      headers: ['X-A', '1', 'x-b', 'new', 'X-D', ''],
    });
    expect(change(['X-A', '1'], { 'X-Unknown': null })).toEqual({ ok: true, headers: ['X-A', '1'] });
  });

  it('keeps a secret value when its mask is sent back, and takes *** literally for other names', () => {
    expect(change(['Authorization', 'Bearer t'], { authorization: '***' })).toEqual({
      ok: true,
      headers: ['authorization', 'Bearer t'],
    });
    expect(change([], { 'X-Stars': '***' })).toEqual({ ok: true, headers: ['X-Stars', '***'] });
    expect(problem({ 'X-Api-Key': '***' })).toMatch(/is not set/);
  });

  it.each([
    'Host',
    'HOST',
    'content-length',
    'Content-Type',
    'Content-Encoding',
    'Transfer-Encoding',
    'connection',
    'Keep-Alive',
    'Upgrade',
    'TE',
    'Trailer',
    'Expect',
    'HTTP2-Settings',
    'Proxy-Authorization',
    'proxy-anything',
    'webhook-id',
    'Webhook-Timestamp',
    'webhook-signature',
    'webhook-later',
    'X-Webhook-Event',
    'x-webhook-delivery',
    'X-WEBHOOK-ATTEMPT',
    'X-Webhook-Signature',
  ])('refuses the reserved name %s, also to remove it', (name) => {
    expect(isReservedHeader(name)).toBe(true);
    expect(problem({ [name]: 'x' })).toMatch(/Posthorn sets itself/);
    expect(problem({ [name]: null })).toMatch(/Posthorn sets itself/);
  });

  it.each(['', 'X A', 'X:A', 'X-A\r\nX-Evil', 'X-A\n', ' X-A', 'X-Ä', 'X\u0000', 'X(A)', 'X/A', 'x'.repeat(201)])(
    'refuses %j as a name',
    (name) => {
      expect(problem({ [name]: 'x' })).toMatch(/not a header name/);
    },
  );

  it.each(['a\r\nX-Evil: 1', 'a\n', '\r', 'a\u0000b', 'ü', '\u007f', '\u0085', 'Ā', '😀'])(
    'refuses %j as a value',
    (value) => {
      expect(problem({ 'X-A': value })).toMatch(/visible ASCII/);
    },
  );

  it('holds the bounds: 4,096 characters a value, 50 headers, each name once', () => {
    expect(problem({ 'X-A': 'a'.repeat(4_096) })).toBeUndefined();
    expect(problem({ 'X-A': 'a'.repeat(4_097) })).toMatch(/4096/);
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`X-${n}`, 'v']));
    expect(problem(many(50))).toBeUndefined();
    expect(problem(many(51))).toMatch(/50/);
    expect(problem({ 'X-One-More': 'v' }, Object.entries(many(50)).flat())).toMatch(/50/);
    expect(problem({ 'X-A': '1', 'x-a': '2' })).toMatch(/twice/);
  });

  it('takes names that prototypes have, and every character of a token', () => {
    const names = JSON.parse('{"__proto__": "1", "constructor": "2", "!#$%&\'*+.^_`|~-09azAZ": "3"}');
    expect(change([], names)).toEqual({ ok: true, headers: Object.entries(names).flat() });
    expect(change([], { 'X-A': '\ta b~!' })).toEqual({ ok: true, headers: ['X-A', '\ta b~!'] });
  });
});

describe('maskHeaders', () => {
  it('masks the values of names that look like credentials and no others', () => {
    const secret = ['Authorization', 'Cookie', 'X-API-Key', 'x-auth-token', 'Client-Secret', 'X-PASSWORD', 'X-Session'];
    const plain = ['X-Source', 'Accept', 'X-Trace-Id'];
    const masked = maskHeaders([...secret, ...plain].flatMap((name) => [name, 'value']));
    expect(masked).toEqual([...secret.flatMap((name) => [name, '***']), ...plain.flatMap((name) => [name, 'value'])]);
  });
});
