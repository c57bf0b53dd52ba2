import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { createMasker, REVEALING } from './masker.ts';
import { DEFAULT_RULES, type MaskingRules } from './rules.ts';

const masker = (rules: Partial<MaskingRules> = {}) => createMasker({ ...DEFAULT_RULES, ...rules });
const all = masker({ detectors: ['email', 'phone', 'card'] });
const json = (value: unknown, rules?: Partial<MaskingRules>) => JSON.parse(masker(rules).json(JSON.stringify(value)));
const everything = { charactersMax: Number.POSITIVE_INFINITY };
const answered = (text: string, rules?: Partial<MaskingRules>) =>
  masker(rules).body(text, { kind: 'answered', ...everything }).text;

describe('credentials, which are masked without any rule', () => {
  it.each([
    'password',
    'Password',
    'user_password',
    'passwd',
    'secret',
    'clientSecret',
    'token',
    'access_token',
    'refreshToken',
    'api_key',
    'apiKey',
    'X-Api-Key',
    'authorization',
    'Proxy-Authorization',
    'cookie',
    'Set-Cookie',
    'ssn',
    'cvv',
    'private_key',
    'credentials',
  ])('hides the member %s at any depth', (name) => {
    expect(json({ a: [{ [name]: 'clear text' }] })).toEqual({ a: [{ [name]: '***' }] });
    expect(json({ [name]: { in: ['it', 1, true] } })).toEqual({ [name]: '***' });
  });

  it.each(['key', 'author', 'authenticated', 'session_id', 'tokens', 'token_type', 'ordering_key', 'id', 'pinned'])(
    'shows the member %s',
    (name) => {
      expect(json({ [name]: 'clear text' })).toEqual({ [name]: 'clear text' });
    },
  );

  it('hides names whose letters are escaped, and each of two members with one name', () => {
    expect(masker().json('{"pass\\u0077ord":"clear","password":"c\\u006cear"}')).toBe(
      '{"pass\\u0077ord":"***","password":"***"}',
    );
  });

  it('is never longer than the value, and shows that there is none', () => {
    expect(json({ token: '', secret: 'a', password: 'ab', pin: 7, otp: null, auth: {}, cookie: [] })).toEqual({
      token: '',
      secret: '*',
      password: '**',
      pin: '*',
      otp: null,
      auth: {},
      cookie: [],
    });
  });

  it.each([
    ['login failed: password=hunter2, user=me', 'login failed: password=***, user=me'],
    ['Authorization: Basic dXNlcjpwYXNz\nHost: a', 'Authorization: ***\nHost: a'],
    ['set-cookie: sid=abc; Path=/', 'set-cookie: ***'],
    ['sent "Bearer abc.def-123"', 'sent "Bearer ***"'],
    ['https://me:pass@example.com/a?token=abc&b=1', 'https://***@example.com/a?token=***&b=1'],
    ["{'api_key': 'abc', 'n': 1}", "{'api_key': '***', 'n': 1}"],
    ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw is wrong', 'whsec_*** is wrong'],
    ['key ph_prod_0123456789012345678901234567890123456789012', 'key ph_prod_***'],
    ['{\\"password\\":\\"hun\\"}', '{\\"password\\":\\"***\\"}'],
    ['{"password": hunter2}', '{"password": ***}'],
    ['at 10:30:05 the token bucket = full', 'at 10:30:05 the token bucket = full'],
  ])('in the text %j', (text, masked) => {
    expect(masker().text(text)).toBe(masked);
  });

  it('hides headers that look like credentials, and texts in the others', () => {
    expect(masker().headers({ 'set-cookie': 'a=b', 'x-auth': 'c', server: 'nginx', location: '/?token=abc' })).toEqual({
      'set-cookie': '***',
      'x-auth': '***',
      server: 'nginx',
      location: '/?token=***',
    });
  });

  it('names of the tenant are hidden too, and excepted ones are not', () => {
    const rules = { names: ['IBAN', 'date-of-birth'], except_names: ['next_token'] };
    expect(json({ iban: 'DE00', dateOfBirth: '1.1.', nextToken: 'abc', token: 'abc' }, rules)).toEqual({
      iban: '***',
      dateOfBirth: '***',
      nextToken: 'abc',
      token: '***',
    });
  });
});

describe('paths', () => {
  const data = {
    customer: { email: 'a@b.com', name: 'Mary', tags: ['x', 'y'] },
    items: [
      { card: 'c1', n: 1 },
      { card: 'c2', n: 2 },
    ],
    'odd.name': 'odd',
    deep: { er: { iban: 'DE1' } },
  };
  const hidden = (...paths: string[]) => {
    const shown = JSON.stringify(json(data, { paths }));
    return ['a@b.com', 'Mary', '"x"', '"y"', 'c1', 'c2', 'odd"', 'DE1'].filter((value) => !shown.includes(value));
  };
  it.each([
    ['customer.email', ['a@b.com']],
    ['$.customer.email', ['a@b.com']],
    ['customer', ['a@b.com', 'Mary', '"x"', '"y"']],
    ['customer.*', ['a@b.com', 'Mary', '"x"', '"y"']],
    ['customer.tags[1]', ['"y"']],
    ['customer.tags[*]', ['"x"', '"y"']],
    ['items[*].card', ['c1', 'c2']],
    ['items[1].card', ['c2']],
    ['items.card', []],
    ['items.*.card', ['c1', 'c2']],
    ['["odd.name"]', ['odd"']],
    ['**.iban', ['DE1']],
    ['**.card', ['c1', 'c2']],
    ['deep.**.iban', ['DE1']],
    ['deep.**', ['DE1']],
    ['email', []],
    ['Customer.email', []],
    ['customer.email.x', []],
  ])('%s', (path, values) => {
    // `"odd"` is the value; the name stays.
    expect(hidden(path)).toEqual(values);
  });

  it('$ is the whole', () => {
    expect(masker({ paths: ['$'] }).json('{"a":1}')).toBe('"***"');
    expect(answered('clear', { paths: ['$'] })).toBe('"***"');
  });

  it('begin at the data and metadata of a body that was sent, and anywhere in an answer', () => {
    const rules = { paths: ['customer.name'] };
    const body = '{"type":"t","data":{"customer":{"name":"Mary"}},"x":{"customer":{"name":"Other"}}}';
    expect(masker(rules).body(body, { kind: 'sent', ...everything }).text).toBe(body.replace('Mary', '***'));
    expect(answered(body, rules)).toBe(body.replace('Mary', '***').replace('Other', '***'));
  });

  it('reach into JSON that stands in a text, three levels deep', () => {
    let value = JSON.stringify({ customer: { name: 'Mary' }, password: 'hunter' });
    for (let level = 0; level < 3; level++) {
      value = JSON.stringify({ customer: value });
      const masked = answered(value, { paths: ['customer.name'] });
      expect(masked).not.toContain('Mary');
      expect(masked).not.toContain('hunter');
    }
  });

  it('hide the same values where they stand without their place', () => {
    const mask = masker({ paths: ['customer.name', 'customer.pin', 'tags'] });
    const event = '{"customer":{"name":"Mary \\"M\\" Poppins","pin":918273},"tags":["umbrella"],"password":"spoonful"}';
    const known = mask.hiddenIn([event, null]);
    const show = (text: string) => mask.body(text, { kind: 'answered', ...everything, hidden: known }).text;
    expect(show('unknown: Mary "M" Poppins')).toBe('unknown: ***');
    expect(show('{"error":"no Mary \\"M\\" Poppins","n":918273,"m":"918273"}')).toBe(
      '{"error":"no ***","n":"***","m":"***"}',
    );
    expect(show('name=Mary%20%22M%22%20Poppins&u=umbrella&p=spoonful&x=1')).toBe('name=***&u=***&p=***&x=1');
  });

  it('hide the whole answer when there are too many values to look for', () => {
    const known = (events: object) => masker({ paths: ['**.v'] }).hiddenIn([JSON.stringify(events)]).complete;
    const values = (count: number, length: number) =>
      Array.from({ length: count }, (_, at) => ({ v: String(at).padStart(length, '0') }));
    expect([known(values(50, 10)), known(values(51, 10)), known(values(50, 100))]).toEqual([true, false, false]);
  });

  it('hide the whole answer when the event is too large to know all values, and nothing else', () => {
    const mask = masker();
    const known = mask.hiddenIn([JSON.stringify({ text: 'x'.repeat(70_000) })]);
    expect(mask.body('answer', { kind: 'answered', ...everything, hidden: known })).toEqual({
      text: '***',
      cut: false,
    });
    expect(mask.body('{"a":"sent"}', { kind: 'sent', ...everything, hidden: known }).text).toBe('{"a":"sent"}');
  });
});

describe('detectors', () => {
  it.each([
    ['john@example.com', 'j***@example.com'],
    ['jo@example.com', 'j*@example.com'],
    ['j@example.com', '*@example.com'],
    ['To: John Doe <john.doe+tag@mail.example.co.uk>.', 'To: John Doe <j***@mail.example.co.uk>.'],
    ['jürgen@müller.example, second@b.io', 'j***@müller.example, s***@b.io'],
    ['/users/john%40example.com/x', '/users/j***%40example.com/x'],
    ['"john doe"@example.com', '"***@example.com'],
    ['mailto:john@example.com', 'mailto:j***@example.com'],
    ['@handle, a@b, v1@2.3, x @ y.com', '@handle, a@b, v1@2.3, x @ y.com'],
  ])('e-mail: %j', (text, masked) => {
    expect(masker({ detectors: ['email'] }).text(text)).toBe(masked);
  });

  it.each([
    ['+491701234589', '+49********89'],
    ['+49 170 1234589', '+49 *** *****89'],
    ['+1-555-0123', '+1-5**-**23'],
    ['+1234567890', '+12******90'],
    ['call (555) 123-4567 now', 'call (***) ***-**67 now'],
    ['555-123-4567', '***-***-**67'],
    ['00491701234589', '************89'],
    ['0171/1234567', '****/*****67'],
    ['020 7946 0958', '*** **** **58'],
    ['01 23 45 67 89', '** ** ** ** 89'],
    ['tel:+4930123456', 'tel:+49******56'],
  ])('phone: %j', (text, masked) => {
    expect(masker({ detectors: ['phone'] }).text(text)).toBe(masked);
  });

  it.each([
    '2024-01-15T10:30:00+01:00',
    '2025-08-05T17:30:00Z',
    '01-02-2024 10:15',
    '1700000000',
    '1700000000000',
    '4111111111111111',
    '550e8400-e29b-41d4-a716-446655440000',
    '01234567-0123-4567-8901-012345678901',
    'evt_01h455vb4pex5vsknk084sn02q',
    '192.168.100.200:8080',
    'INV-2024-000123',
    '3.14159265358979',
    '1.000.000,00',
    '-122.419415, 37.774929',
  ])('no phone: %j', (text) => {
    expect(masker({ detectors: ['phone'] }).text(text)).toBe(text);
    expect(json({ value: text, number: 1234567890 }, { detectors: ['phone'] })).toEqual({
      value: text,
      number: 1234567890,
    });
  });

  it('takes what is named like a telephone number for one', () => {
    const rules = { detectors: ['phone'] as const };
    expect(json({ phone: '555-0123', phone_number: 1701234589, Mobile: '01701234589', phone_ok: true }, rules)).toEqual(
      {
        phone: '***-**23',
        phone_number: '********89',
        Mobile: '*********89',
        phone_ok: true,
      },
    );
  });

  it.each([
    ['4111111111111111', '****1111'],
    ['card 4111 1111 1111 1111 ok', 'card ****1111 ok'],
    ['4111-1111-1111-1111', '****1111'],
    ['378282246310005', '****0005'],
    ['6011000990139424 5555555555554444', '****9424 ****4444'],
    ['4222222222222', '****2222'],
    ['1234567812345670', '****5670'],
    ['4111111111111112', '4111111111111112'],
    ['41111111111111111111', '41111111111111111111'],
    ['x4111111111111111', 'x4111111111111111'],
    ['1700000000000', '1700000000000'],
    ['0000000000000000', '0000000000000000'],
  ])('card: %j', (text, masked) => {
    expect(masker({ detectors: ['card'] }).text(text)).toBe(masked);
    expect(answered(text, { detectors: ['card'] })).toBe(
      /^\d+$/.test(text) && masked !== text ? `"${masked}"` : masked,
    );
  });

  it('finds cards that are numbers, and lets other numbers be as they are written', () => {
    const text = '{"card":4111111111111111,"big":12345678901234567891234567890,"n":1.50,"e":1e400,"ts":1700000000000}';
    expect(all.json(text)).toBe(text.replace('4111111111111111', '"****1111"'));
  });

  it('looks into names, escapes and JSON within texts', () => {
    expect(all.json('{"john@example.com":1,"a":"j\\u006fhn\\u0040example.com","b":"{\\"c\\":\\"x@y.com\\"}"}')).toBe(
      '{"j***@example.com":1,"a":"j***@example.com","b":"{\\"c\\":\\"*@y.com\\"}"}',
    );
  });

  it('does nothing that was not asked for', () => {
    const text = '{"a":"john@example.com","b":"+491701234589","c":"4111111111111111"}';
    expect(masker().json(text)).toBe(text);
  });
});

describe('bodies', () => {
  it('that end in the middle are masked as far as they go, and what may be a part at the end is left out', () => {
    const mask = (text: string) => all.body(text, { kind: 'answered', ...everything, keptCut: true });
    expect(mask('{"password":"hunt').text).toBe('{"password":"');
    expect(mask('{"a":"b","card":"4111 1111 1111 11').text).toBe('{"a":"b","card":"');
    expect(mask('to john@exam').text).toBe('to');
    expect(mask('all well').cut).toBe(true);
    // Cut by nobody, but no whole JSON either.
    expect(answered('{"password":"hunt')).toBe('{"password":"***"');
  });

  it('that are lines of JSON, or JSON with something else behind it', () => {
    expect(answered('{"token":"abc"}\n{"token":"def"}\n')).toBe('{"token":"***"}\n{"token":"***"}\n');
    expect(answered('[1] token=abc')).toBe('[1] token=***');
    expect(all.body('[4111 1111 1111 1111]', { kind: 'answered', ...everything }).text).toBe('[****1111]');
    expect(answered('{"a":{"password": hunter2}}')).toBe('{"a":{"password": ***');
  });

  it('show as many characters as wanted, and nothing of what is cut in two', () => {
    const text = JSON.stringify({ a: '0123456789', password: 'hunter2', card: '4111111111111111', b: 'more' });
    for (let length = 0; length <= text.length; length++) {
      const shown = all.body(text, { kind: 'sent', charactersMax: length });
      expect(shown.text).toBe(all.json(text).slice(0, length));
      expect(shown.cut).toBe(shown.text.length < all.json(text).length);
    }
  });

  it('deeper than 100 levels are hidden from there on', () => {
    const deep = `${'['.repeat(150)}"clear"${']'.repeat(150)}`;
    expect(answered(deep)).toBe(`${'['.repeat(100)}"***"${']'.repeat(100)}`);
  });
});

test('whatever the JSON, what is shown is JSON with the same shape, and all that no rule means is as it was', () => {
  const rules = masker({ paths: ['a.b', '**.c', 'd[*]'], detectors: ['email', 'phone', 'card'], names: ['x'] });
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.boolean(), (text, spaced) => {
      const written = spaced ? JSON.stringify(JSON.parse(text), null, 2) : text;
      expect(() => JSON.parse(rules.json(written))).not.toThrow();
      const none = createMasker({ ...DEFAULT_RULES, except_names: [] });
      if (!/pass|secret|token|key|cookie|auth|pin|otp|cv|ssn|[:=]/i.test(text.replaceAll('":', ''))) {
        expect(none.json(written)).toBe(written);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('whatever the text, masking it neither fails nor hides a cut of it less than the whole', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', '1', 'a', '@', '.', ' ', '+', '=') }),
      (text) => {
        expect(typeof all.body(text, { kind: 'answered', ...everything }).text).toBe('string');
        expect(all.text(all.text(text))).toBe(all.text(text));
      },
    ),
    { numRuns: 2_000 },
  );
});

/** A quadratic rule would take minutes for these. */
test.each([
  ['digits', '1'],
  ['digits apart', '1 '],
  ['at signs', '@'],
  ['letters', 'a'],
  ['addresses', 'a@b.co '],
  ['halves of addresses', 'a@'],
  ['plus signs', '+1'],
  ['area codes', '0171-'],
  ['opening brackets', '['],
  ['members', '{"a":'],
  ['quotes', '"'],
  ['escaped quotes', '\\"'],
  ['backslashes', '\\'],
  ['separators', 'a='],
  ['passwords', 'password="'],
  ['spaces', ' '],
  ['schemes', 'bearer '],
  ['URLs', 'a://b'],
  ['JSON within JSON', '[\\"'],
  ['escaped at signs', '%40'],
])('1 MB of %s is masked in a bounded time', (_name, part) => {
  const rules = masker({ paths: ['a.b', '**.c'], detectors: ['email', 'phone', 'card'] });
  const text = part.repeat(Math.ceil(1_048_576 / part.length));
  const startedMs = performance.now();
  for (const each of [text, `"${text}"`, `{"a":"${text}`]) rules.body(each, { kind: 'answered', ...everything });
  expect(performance.now() - startedMs).toBeLessThan(10_000);
});

test('a role that reveals is shown everything, cut at the same length', () => {
  const text = '{"password":"hunter2"}';
  expect(REVEALING.json(text)).toBe(text);
  expect(REVEALING.body(text, { kind: 'sent', charactersMax: 5 })).toEqual({ text: '{"pas', cut: true });
});
