import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Access, type Call, startAccess } from '../access-fixture.ts';
import { encode, keySet, makeKey, type SigningKey, signToken } from './token-fixture.ts';

const SECRET = 'a secret that the issuer and we share';
const AUDIENCE = 'posthorn';

let access: Access;
let rsa: SigningKey;
let ec: SigningKey;
let ed: SigningKey;
const documents = new Map<string, () => Buffer | Promise<Buffer>>();
beforeAll(async () => {
  access = await startAccess(documents);
  [rsa, ec, ed] = [makeKey('RS256', 'r1'), makeKey('ES256', 'e1'), makeKey('EdDSA', 'd1')];
});
afterAll(() => access.stop());

let count = 0;
let tenant: { id: string; slug: string };
/** A new one for each test. */
let iss: string;
beforeEach(async () => {
  count += 1;
  iss = `https://issuer-${count}.example`;
  tenant = await access.makeTenant();
});

async function addIssuer(fields: object = {}) {
  const body = { name: 'Issuer', issuer: iss, audience: AUDIENCE, ...fields };
  const answer = await access.call('POST', '/api/v1/jwt-issuers', { body });
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return answer.body as { id: string };
}

const addSecretIssuer = (fields: object = {}) => addIssuer({ secret: SECRET, ...fields });

async function addKeyIssuer(keys: SigningKey[], fields: object = {}) {
  const url = `${iss}/jwks.json`;
  documents.set(url, () => keySet(...keys));
  return { url, ...(await addIssuer({ jwks_url: url, ...fields })) };
}

const seconds = () => Math.floor(access.clock.now() / 1000);
const claims = (more: object = {}) => ({
  iss,
  aud: AUDIENCE,
  sub: 'user-7',
  iat: seconds(),
  exp: seconds() + 600,
  tenant: tenant.slug,
  role: 'developer',
  ...more,
});
const ask = (key: string, options: Call = {}) => access.call('GET', '/needs/read', { key, ...options });
/** With the same answer for all of them. */
const REFUSED = {
  status: 401,
  body: {
    error: {
      code: 'unauthorized',
      message: 'A valid key is needed: send "Authorization: Bearer <key>" or "X-API-Key: <key>".',
      details: {},
      request_id: expect.any(String),
    },
  },
};

describe('a token', () => {
  test('of a shared secret speaks for its tenant, environment and role, and its subject is who acts', async () => {
    await addSecretIssuer();
    const { status, body } = await ask(signToken(claims({ environment: 'staging' }), SECRET));
    expect(status).toBe(200);
    expect(body).toMatchObject({
      actor: { kind: 'jwt', id: 'user-7' },
      environmentName: 'staging',
      role: 'developer',
    });
    const byId = await ask(signToken(claims({ tenant: tenant.id, environment: 'staging' }), SECRET));
    expect(byId.body).toEqual(body);
  });

  test.each([
    ['RS256', () => rsa],
    ['ES256', () => ec],
    ['EdDSA', () => ed],
  ])('signed with %s by a key of the issuer’s URL is taken', async (_name, key) => {
    await addKeyIssuer([rsa, ec, ed]);
    expect((await ask(signToken(claims(), key()))).status).toBe(200);
  });

  test('is taken in X-API-Key too, with an audience among others, and with up to 8,192 characters', async () => {
    await addSecretIssuer();
    const token = signToken(claims({ aud: ['other', AUDIENCE] }), SECRET);
    const headers = { authorization: '', 'x-api-key': token };
    expect((await access.call('GET', '/needs/read', { headers })).status).toBe(200);
    const ofLength = (length: number) => {
      for (let pad = length; ; pad -= 1) {
        const text = signToken(claims({ pad: 'x'.repeat(Math.max(0, pad)) }), SECRET);
        if (text.length <= length) return text;
      }
    };
    const longest = ofLength(8_192);
    expect(longest.length).toBeGreaterThan(8_188);
    expect((await ask(longest)).status).toBe(200);
    expect(await ask(`${longest}xxxx`.slice(0, 8_193))).toEqual(REFUSED);
  });

  test('that is in memory costs neither a query nor a promise, and ends with its expiry and the clock skew', async () => {
    await addSecretIssuer({ clock_skew_seconds: 10 });
    const token = signToken(claims({ exp: seconds() + 30 }), SECRET);
    const request = { headers: { authorization: `Bearer ${token}` }, ip: '127.0.0.1' };
    const authenticate = () => access.authenticator.authenticate(request);
    expect(access.authenticator.recognize(request.headers)).toBeUndefined();
    const caller = await authenticate();
    // The server reads it when it lets the request in; until then the direct way leaves it to the server.
    expect(access.authenticator.recognize(request.headers)).toBeUndefined();
    await access.tenants.get(caller.tenantId);
    expect(access.authenticator.recognize(request.headers)).toBe(caller);
    const queries = access.queries.length;
    for (let times = 0; times < 100; times += 1) expect(authenticate()).toBe(caller);
    expect(access.queries.length).toBe(queries);
    access.clock.advance(39_000 - (access.clock.now() % 1000));
    expect((await ask(token)).status).toBe(200);
    access.clock.advance(1_000);
    expect(await ask(token)).toEqual(REFUSED);
    access.authenticator.invalidateAll();
    expect(await ask(token)).toEqual(REFUSED);
  });

  test('is judged anew after a minute, in case a notice was lost', async () => {
    const { id } = await addSecretIssuer();
    const token = signToken(claims(), SECRET);
    expect((await ask(token)).status).toBe(200);
    // As if another node had done it and this one had not been told.
    await access.db.deleteFrom('jwt_issuers').where('name', '=', 'Issuer').where('issuer', '=', iss).execute();
    access.clock.advance(59_999);
    expect((await ask(token)).status).toBe(200);
    access.clock.advance(1);
    expect(await ask(token)).toEqual(REFUSED);
    expect((await access.call('GET', `/api/v1/jwt-issuers/${id}`)).status).toBe(404);
  });

  test('may name its own tenant and environment in the headers, and naming others is a 403', async () => {
    await addSecretIssuer();
    const other = await access.makeTenant();
    const token = signToken(claims(), SECRET);
    for (const name of [tenant.slug, tenant.id]) {
      const headers = { 'x-tenant-id': name, 'x-environment': 'production' };
      expect((await ask(token, { headers })).status).toBe(200);
    }
    for (const name of [other.slug, other.id, 'default', '', '__proto__']) {
      const { status, body } = await ask(token, { headers: { 'x-tenant-id': name } });
      expect([status, body.error.message]).toEqual([
        403,
        'X-Tenant-Id names another tenant than the one of this token.',
      ]);
    }
    expect((await ask(token, { headers: { 'x-environment': 'staging' } })).status).toBe(403);
  });
});

describe('a token is refused without a word when', () => {
  const OTHER = 'another secret, which is long enough too';
  /** Each made for a sound token beside it, which is taken. */
  const TOKENS: [string, () => string][] = [
    ['alg is none', () => `${encode('{"alg":"none","typ":"JWT"}')}.${encode(JSON.stringify(claims()))}.`],
    ['alg is none and there is a signature', () => signToken(claims(), SECRET, { alg: 'none' })],
    ['alg is NONE', () => signToken(claims(), SECRET, { alg: 'NONE' })],
    ['alg is HS512', () => signToken(claims(), SECRET, { alg: 'HS512' })],
    ['alg is hs256', () => signToken(claims(), SECRET, { alg: 'hs256' })],
    ['alg is missing', () => signToken(claims(), SECRET, { alg: undefined })],
    ['alg is a list', () => signToken(claims(), SECRET, { alg: ['HS256'] })],
    ['alg is RS256 for a secret', () => signToken(claims(), rsa)],
    ['the secret is another', () => signToken(claims(), OTHER)],
    ['the secret is empty', () => signToken(claims(), '')],
    ['the signature is cut', () => signToken(claims(), SECRET).slice(0, -4)],
    ['the signature is missing', () => signToken(claims(), SECRET).replace(/[^.]*$/, '')],
    ['the claims were changed', () => swapClaims(signToken(claims(), SECRET), claims({ role: 'owner' }))],
    ['it has expired', () => signToken(claims({ exp: seconds() - 60 }), SECRET)],
    ['it has no expiry', () => signToken(claims({ exp: undefined }), SECRET)],
    ['its expiry is a text', () => signToken(claims({ exp: `${seconds() + 600}` }), SECRET)],
    ['its expiry is endless', () => signToken(JSON.stringify(claims()).replace(/"exp":\d+/, '"exp":1e999'), SECRET)],
    ['it lives too long', () => signToken(claims({ exp: seconds() + 86_401 }), SECRET)],
    [
      'it lives too long and does not say since when',
      () => signToken(claims({ iat: undefined, exp: seconds() + 86_462 }), SECRET),
    ],
    [
      'it has lived too long already',
      () => signToken(claims({ iat: seconds() - 86_400, exp: seconds() + 60 }), SECRET),
    ],
    ['it is not yet valid', () => signToken(claims({ nbf: seconds() + 62 }), SECRET)],
    ['it is from the future', () => signToken(claims({ iat: seconds() + 62 }), SECRET)],
    ['nbf is no time', () => signToken(claims({ nbf: 'now' }), SECRET)],
    ['the audience is another', () => signToken(claims({ aud: 'other' }), SECRET)],
    ['the audience is missing', () => signToken(claims({ aud: undefined }), SECRET)],
    ['the audience is a part', () => signToken(claims({ aud: [`${AUDIENCE}2`] }), SECRET)],
    ['the issuer is another', () => signToken(claims({ iss: `${iss}/` }), SECRET)],
    ['the issuer is missing', () => signToken(claims({ iss: undefined }), SECRET)],
    ['it has critical extensions', () => signToken(claims(), SECRET, { crit: ['b64'], b64: true })],
    ['its payload is unencoded', () => signToken(claims(), SECRET, { b64: false })],
    ['it holds another token', () => signToken(claims(), SECRET, { cty: 'JWT' })],
    ['it is nested', () => signToken(encode(signToken(claims(), SECRET)), SECRET)],
    ['it is another kind of token', () => signToken(claims(), SECRET, { typ: 'logout+jwt' })],
    ['a claim comes twice', () => signToken(JSON.stringify(claims()).replace('{', '{"role":"owner",'), SECRET)],
    [
      'a claim comes twice in another spelling',
      () => signToken(JSON.stringify(claims()).replace('{', String.raw`{"r\u006fle":"owner",`), SECRET),
    ],
    ['a header comes twice', () => signToken(claims(), SECRET, '{"alg":"none","alg":"HS256"}')],
    ['the claims are a list', () => signToken('[]', SECRET)],
    ['the claims are null', () => signToken('null', SECRET)],
    ['the claims are no JSON', () => signToken('{"iss":', SECRET)],
    ['the claims are no UTF-8', () => signWith(Buffer.from([0x7b, 0xff, 0x7d]))],
    ['it is encrypted', () => `${signToken(claims(), SECRET)}.x.y`],
    ['it has padding', () => signToken(claims(), SECRET).replace('.', '=.')],
    ['there is no subject', () => signToken(claims({ sub: undefined }), SECRET)],
    ['the subject is empty', () => signToken(claims({ sub: '' }), SECRET)],
    ['the subject is no text', () => signToken(claims({ sub: 7 }), SECRET)],
    ['the subject has a line break', () => signToken(claims({ sub: 'a\nb' }), SECRET)],
    ['the subject is too long', () => signToken(claims({ sub: 'x'.repeat(256) }), SECRET)],
    ['the role is missing', () => signToken(claims({ role: undefined }), SECRET)],
    ['the role means nothing', () => signToken(claims({ role: 'root' }), SECRET)],
    ['the role is operator', () => signToken(claims({ role: 'operator' }), SECRET)],
    ['the role is __proto__', () => signToken(claims({ role: '__proto__' }), SECRET)],
    ['the role is no text', () => signToken(claims({ role: { a: 1 } }), SECRET)],
    ['the tenant is missing', () => signToken(claims({ tenant: undefined }), SECRET)],
    ['the tenant is not there', () => signToken(claims({ tenant: 'no-such' }), SECRET)],
    ['the tenant is no text', () => signToken(claims({ tenant: [tenant.slug] }), SECRET)],
    ['the environment is not there', () => signToken(claims({ environment: 'no-such' }), SECRET)],
    ['the environment is no text', () => signToken(claims({ environment: 1 }), SECRET)],
    ['the environment is __proto__', () => signToken(claims({ environment: '__proto__' }), SECRET)],
  ];

  test.each(TOKENS)('%s', async (_what, make) => {
    await addSecretIssuer();
    const sound = signToken(claims(), SECRET);
    expect((await ask(sound)).status).toBe(200);
    expect(await ask(make())).toEqual(REFUSED);
    expect((await ask(sound)).status).toBe(200);
  });

  test('the issuer’s public key was used as a secret', async () => {
    const { url } = await addKeyIssuer([rsa]);
    expect((await ask(signToken(claims(), rsa))).status).toBe(200);
    const { publicKey } = rsa;
    const secrets = [
      publicKey.export({ format: 'pem', type: 'spki' }),
      publicKey.export({ format: 'pem', type: 'pkcs1' }),
      publicKey.export({ format: 'der', type: 'spki' }),
      JSON.stringify(publicKey.export({ format: 'jwk' })),
      `${publicKey.export({ format: 'jwk' }).n}`,
      (await documents.get(url)?.()) as Buffer,
    ];
    for (const secret of secrets) {
      for (const header of [{}, { kid: 'r1' }]) expect(await ask(signToken(claims(), secret, header))).toEqual(REFUSED);
    }
  });

  test('its key is in the token itself, too short, for encryption, or of another kind than the algorithm', async () => {
    const short = makeKey('RS256', 'short', 1024);
    await addKeyIssuer([rsa, ec, short]);
    const evil = makeKey('RS256', 'r1');
    const jwk = evil.publicKey.export({ format: 'jwk' });
    for (const token of [
      signToken(claims(), evil, { jwk }),
      signToken(claims(), evil, { jku: 'https://evil.example/jwks.json' }),
      signToken(claims(), short),
      signToken(claims(), { ...ec, keyId: 'r1' }),
      signToken(claims(), { ...rsa, keyId: 'e1' }),
      signToken(claims(), rsa, { kid: 7 }),
      signToken(claims(), rsa, { kid: '__proto__' }),
    ]) {
      expect(await ask(token)).toEqual(REFUSED);
    }
  });

  test('the tenant is deleted, from the next request on', async () => {
    await addSecretIssuer();
    const token = signToken(claims(), SECRET);
    expect((await ask(token)).status).toBe(200);
    expect((await access.call('DELETE', `/api/v1/tenants/${tenant.slug}`)).status).toBe(204);
    expect(await ask(token)).toEqual(REFUSED);
  });

  test('nothing of it is in the log but the reason', async () => {
    const { id } = await addSecretIssuer();
    const token = signToken(claims({ exp: seconds() - 100, sub: 'hidden-subject' }), SECRET);
    const from = access.logLines.length;
    expect(await ask(token)).toEqual(REFUSED);
    const lines = access.logLines.slice(from).join();
    expect(lines).toContain(`"issuer_id":"${id}","reason":"expired"`);
    for (const part of [...token.split('.'), 'hidden-subject', tenant.slug]) expect(lines).not.toContain(part);
  });
});

test('what cannot be a token of ours costs no query and no signature check', async () => {
  await addSecretIssuer();
  await addKeyIssuer([rsa]);
  expect((await ask(signToken(claims(), SECRET))).status).toBe(200);
  const [queries, fetched] = [access.queries.length, access.fetched.length];
  for (const token of [
    signToken(claims({ iss: 'https://stranger.example' }), SECRET),
    signToken(claims({ exp: 1 }), { ...rsa, keyId: 'unknown' }),
    signToken(claims({ aud: 'x' }), { ...rsa, keyId: 'unknown' }),
    signToken(claims({ role: 'x' }), { ...rsa, keyId: 'unknown' }),
    'ey.ey.x',
    'eyJ.eyJ.x',
    'a.b.c',
  ]) {
    expect((await ask(token)).status).toBe(401);
  }
  expect([access.queries.length, access.fetched.length]).toEqual([queries, fetched]);
});

describe('the clock skew', () => {
  test('is as wide as the issuer says, in both directions', async () => {
    const { id } = await addSecretIssuer({ clock_skew_seconds: 0 });
    access.clock.advance(1_000 - (access.clock.now() % 1000));
    const early = signToken(claims({ nbf: seconds() + 10 }), SECRET);
    const late = signToken(claims({ iat: seconds() - 100, exp: seconds() - 9 }), SECRET);
    expect([(await ask(early)).status, (await ask(late)).status]).toEqual([401, 401]);
    await access.call('PATCH', `/api/v1/jwt-issuers/${id}`, { body: { clock_skew_seconds: 10 } });
    expect([(await ask(early)).status, (await ask(late)).status]).toEqual([200, 200]);
  });
});

describe('claims', () => {
  test('have the names that the issuer gives them, dotted or literal', async () => {
    await addSecretIssuer({
      claims: { tenant: 'org.slug', environment: 'https://posthorn.example/env', role: 'realm_access.roles' },
      roles: { 'webhook-admin': 'admin', reader: 'viewer' },
    });
    const shaped = (more: object) => signToken(claims({ tenant: undefined, role: undefined, ...more }), SECRET);
    const sound = {
      org: { slug: tenant.slug },
      'https://posthorn.example/env': 'development',
      realm_access: { roles: ['offline_access', 'reader', 'webhook-admin'] },
    };
    expect((await ask(shaped(sound))).body).toMatchObject({ environmentName: 'development', role: 'admin' });
    for (const more of [
      { org: tenant.slug },
      { org: null },
      { realm_access: { roles: ['offline_access'] } },
      { realm_access: { roles: [] } },
      { realm_access: { roles: 'admin' } },
      { realm_access: null },
    ]) {
      expect((await ask(shaped({ ...sound, ...more }))).status, JSON.stringify(more)).toBe(401);
    }
  });

  test('that are missing have the issuer’s defaults, and those that mean nothing have not', async () => {
    await addSecretIssuer({ default_role: 'viewer', default_environment: 'staging' });
    const token = (more: object) => signToken(claims({ role: undefined, ...more }), SECRET);
    expect((await ask(token({}))).body).toMatchObject({ role: 'viewer', environmentName: 'staging' });
    expect((await ask(token({ role: null, environment: null }))).body).toMatchObject({ role: 'viewer' });
    expect((await ask(token({ role: 'developer', environment: 'production' }))).body).toMatchObject({
      role: 'developer',
      environmentName: 'production',
    });
    for (const more of [{ role: 'x' }, { role: '' }, { role: [] }, { environment: '' }]) {
      expect(await ask(token(more))).toEqual(REFUSED);
    }
  });

  test('of a role decide what the token may do, and a map of roles leaves nothing beside it', async () => {
    await addSecretIssuer({ roles: { boss: 'owner', app: 'publisher' } });
    const having = (role: unknown) => access.permissions(signToken(claims({ role }), SECRET));
    expect(await having('boss')).toEqual(['read', 'publish', 'develop', 'administer']);
    expect(await having('app')).toEqual(['publish']);
    expect(await having('owner')).toEqual(['401']);
  });
});

describe('issuers', () => {
  test('with a tenant of its own speaks for that one only', async () => {
    const other = await access.makeTenant();
    await addSecretIssuer({ tenant: tenant.slug });
    const token = (name: unknown) => signToken(claims({ tenant: name }), SECRET);
    const own = (await ask(token(tenant.slug))).body.tenantId;
    expect((await ask(token(undefined))).body.tenantId).toBe(own);
    for (const name of [other.slug, other.id, 'default', 'no-such', 7]) {
      expect(await ask(token(name))).toEqual(REFUSED);
    }
    await access.call('DELETE', `/api/v1/tenants/${tenant.slug}`);
    expect(await ask(token(undefined))).toEqual(REFUSED);
  });

  test('of two tenants may have the same name: whose key signed decides', async () => {
    const other = await access.makeTenant();
    await addSecretIssuer({ tenant: tenant.slug });
    await addSecretIssuer({ tenant: other.slug, secret: 'the secret of the other tenant’s issuer' });
    const [own, foreign] = [SECRET, 'the secret of the other tenant’s issuer'];
    const asked = async (name: string | undefined, secret: string) => ask(signToken(claims({ tenant: name }), secret));
    const ids = [(await asked(undefined, own)).body.tenantId, (await asked(undefined, foreign)).body.tenantId];
    expect(new Set(ids).size).toBe(2);
    expect((await asked(other.slug, foreign)).body.tenantId).toBe(ids[1]);
    expect(await asked(other.slug, own)).toEqual(REFUSED);
    expect(await asked(tenant.slug, foreign)).toEqual(REFUSED);
  });

  test('that are removed or changed take no token from the next request on', async () => {
    const { id } = await addSecretIssuer();
    const token = signToken(claims(), SECRET);
    const patch = (body: object) => access.call('PATCH', `/api/v1/jwt-issuers/${id}`, { body });
    expect((await ask(token)).status).toBe(200);
    expect((await patch({ audience: 'other' })).status).toBe(200);
    expect(await ask(token)).toEqual(REFUSED);
    await patch({ audience: AUDIENCE });
    expect((await ask(token)).status).toBe(200);
    await patch({ secret: `${SECRET} 2` });
    expect(await ask(token)).toEqual(REFUSED);
    await patch({ secret: SECRET, roles: { developer: 'viewer' } });
    expect((await ask(token)).body.role).toBe('viewer');
    expect((await access.call('DELETE', `/api/v1/jwt-issuers/${id}`)).status).toBe(204);
    expect(await ask(token)).toEqual(REFUSED);
  });

  test('whose secret cannot be opened keep nobody else out', async () => {
    const first = await addSecretIssuer();
    const { secret_box } = await access.db
      .selectFrom('jwt_issuers')
      .select('secret_box')
      .where('issuer', '=', iss)
      .executeTakeFirstOrThrow();
    iss = `${iss}/second`;
    await addSecretIssuer({ secret: 'a secret that will be overwritten' });
    // The sealed secret of another row does not open.
    await access.db.updateTable('jwt_issuers').set({ secret_box }).where('issuer', '=', iss).execute();
    access.authenticator.invalidateIssuers();
    expect(await ask(signToken(claims(), SECRET))).toEqual(REFUSED);
    iss = iss.replace('/second', '');
    expect((await ask(signToken(claims(), SECRET))).status).toBe(200);
    expect((await access.call('GET', `/api/v1/jwt-issuers/${first.id}`)).status).toBe(200);
  });
});

describe('keys at a URL', () => {
  test('are fetched once for any number of tokens, and anew for a key id that is not known', async () => {
    const next = makeKey('ES256', 'e2');
    const { url } = await addKeyIssuer([ec]);
    const tokens = Array.from({ length: 20 }, (_, n) => signToken(claims({ n }), ec));
    expect((await Promise.all(tokens.map((token) => ask(token)))).map(({ status }) => status)).toEqual(
      tokens.map(() => 200),
    );
    const fetches = () => access.fetched.filter((each) => each === url).length;
    expect(fetches()).toBe(1);
    documents.set(url, () => keySet(ec, next));
    access.clock.advance(10_000);
    expect((await ask(signToken(claims(), next))).status).toBe(200);
    expect(fetches()).toBe(2);
  });

  test('that cannot be had are a 503, since the token may be good', async () => {
    const { url } = await addKeyIssuer([ec]);
    const there = documents.get(url) as () => Buffer;
    documents.delete(url);
    const token = signToken(claims(), ec);
    const { status, body } = await ask(token);
    expect([status, body.error.code]).toEqual([503, 'unavailable']);
    documents.set(url, there);
    access.clock.advance(10_000);
    expect((await ask(token)).status).toBe(200);
  });

  test('without an id are found when there is only one of the kind', async () => {
    const second = makeKey('ES256', 'e2');
    const { url } = await addKeyIssuer([ec, rsa]);
    const token = () => signToken(claims(), ec, { kid: undefined });
    expect((await ask(token())).status).toBe(200);
    documents.set(url, () => keySet(ec, second));
    access.clock.advance(600_000);
    expect(await ask(token())).toEqual(REFUSED);
  });
});

/** A token with other claims than those that were signed. */
function swapClaims(token: string, other: object): string {
  const [header, , signature] = token.split('.');
  return `${header}.${encode(JSON.stringify(other))}.${signature}`;
}

function signWith(claimBytes: Buffer): string {
  const text = signToken('', SECRET).split('.');
  return [text[0], claimBytes.toString('base64url'), text[2]].join('.');
}
