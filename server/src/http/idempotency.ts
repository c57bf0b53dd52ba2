import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Database, errorCode } from '../db/pool.ts';
import { SEALED_COLUMNS, sealedPlace } from '../encryption/sealed-columns.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError, conflict, malformed } from '../kernel/errors.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { type Caller, permits, type Scope } from './caller.ts';
import {
  type Claim,
  claimRequest,
  completeRequest,
  listAnswers,
  releaseRequest,
  removeAnswers,
  removeKeysHolding,
} from './idempotency-queries.ts';
import type { HttpServer } from './server.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `own`: the route takes care of `Idempotency-Key` itself. */
    idempotency?: 'own';
  }
  interface FastifyRequest {
    /** Set while this request is the one that answers for its `Idempotency-Key`. */
    idempotencyClaim: Claim | undefined;
  }
}

/**
 * `Idempotency-Key` on every POST of a known caller: the first answer to a key is kept for 24 hours and given again,
 * with `idempotent-replayed: true`, to whoever sends the same request with it. Keys belong to a tenant's environment;
 * those of portal tokens with an owner belong to the owner.
 *
 * - Another request with the key: 409 `idempotency_key_reused`. The request is its path with the query and its body's
 *   exact bytes; the method is always POST. From a role that is shown other than whoever asked first (`reveal`), it is
 *   another request.
 * - The first one still under way: 409 `idempotency_in_progress` with `Retry-After: 1`. When it has been so for a
 *   minute, its process is taken for dead and the next one does the work.
 * - Refusals that say nothing about the request itself are not kept, and the next try is a first one: every 5xx, 401,
 *   403, 408 and 429. Nor is what is refused before the handler (a body that is not valid).
 *
 * The work and the keeping of its answer are two transactions: when the process dies between them, a retry after a
 * minute does the work again.
 */
export function registerIdempotency(app: HttpServer, deps: { db: Database; box: SecretBox; clock: Clock }): void {
  const { db, box, clock } = deps;
  app.decorateRequest('idempotencyClaim', undefined);

  /** Resolves to `replayed` when the answer was given before and is sent again. */
  const claim = async (
    given: string | string[],
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<'first' | 'replayed'> => {
    if (typeof given !== 'string' || !KEY.test(given)) {
      throw malformed('Idempotency-Key must be 1 to 255 visible ASCII characters.', 'invalid_idempotency_key');
    }
    const scope = { tenantId: request.caller.tenantId, environmentId: request.caller.environmentId };
    const key = keyOf(request.caller, given);
    const outcome = await claimRequest(db, { ...scope, key, requestHash: hashRequest(request, box) }, clock.now());
    switch (outcome.kind) {
      case 'claimed':
        request.idempotencyClaim = outcome.claim;
        return 'first';
      case 'reused':
        throw conflict('idempotency_key_reused', 'This Idempotency-Key was used for another request.');
      case 'in-progress':
        throw new AppError({
          code: 'idempotency_in_progress',
          message: 'The first request with this Idempotency-Key is still under way.',
          retryAfterSeconds: 1,
        });
      case 'answered':
        await box.learn([outcome.box]);
        replay(reply, outcome.status, openAnswer(box, outcome.box, scope, key));
        return 'replayed';
    }
  };
  // Most requests carry no key: for them the hooks cost a look and no promise.
  app.addHook('preHandler', (request, reply, done) => {
    const key = request.headers['idempotency-key'];
    const { idempotency } = request.routeOptions.config;
    // A request without a caller has no tenant that the key could belong to.
    if (key === undefined || request.method !== 'POST' || idempotency === 'own' || request.caller === null) {
      done();
      return;
    }
    claim(key, request, reply).then((outcome) => {
      if (outcome === 'first') done();
    }, done);
  });

  const keep = async (claim: Claim, request: FastifyRequest, reply: FastifyReply, payload: unknown) => {
    try {
      const answer = readAnswer(reply, payload);
      if (answer === undefined) await releaseRequest(db, claim);
      else
        await completeRequest(db, claim, reply.statusCode, box.seal(JSON.stringify(answer), placeOf(claim, claim.key)));
    } catch (error) {
      // The work is done, and its answer is worth more than the keeping of it.
      request.log.error({ request_id: request.id, code: errorCode(error) }, 'an idempotent answer was not kept');
    }
  };
  app.addHook('onSend', (request, reply, payload, done) => {
    const { idempotencyClaim } = request;
    request.idempotencyClaim = undefined;
    if (idempotencyClaim === undefined) done(null, payload);
    else void keep(idempotencyClaim, request, reply, payload).then(() => done(null, payload));
  });
}

const KEY = /^[\x21-\x7e]{1,255}$/;

/** The key as it is kept. Two owners may choose the same one; a space is in no other caller's key. */
function keyOf({ owner }: Caller, given: string): string {
  return owner === undefined ? given : `${given} ${owner}`;
}

/** What is kept of an answer beside its status. */
interface Answer {
  contentType: string | undefined;
  /** undefined: no body. */
  body: string | undefined;
}

const STATUSES_NOT_KEPT = [401, 403, 408, 429];

/** The answer to keep; undefined when it is not one for every later request of the same kind. */
function readAnswer(reply: FastifyReply, payload: unknown): Answer | undefined {
  if (reply.statusCode >= 500 || STATUSES_NOT_KEPT.includes(reply.statusCode)) return undefined;
  const header = reply.getHeader('content-type');
  const contentType = typeof header === 'string' ? header : undefined;
  if (payload === undefined || payload === null) return { contentType, body: undefined };
  if (typeof payload === 'string') return { contentType, body: payload };
  // Bodies are JSON, which is UTF-8; a stream has no end that could be kept.
  return Buffer.isBuffer(payload) ? { contentType, body: payload.toString('utf8') } : undefined;
}

function openAnswer(box: SecretBox, sealed: Buffer, scope: Scope, key: string): Answer {
  return JSON.parse(box.open(sealed, placeOf(scope, key))) as Answer;
}

const OPENED_AT_ONCE = 200;

/**
 * Removes the kept answers of an environment that hold a text, or whose key does, and gives their number: the next try of
 * such a request is a first one. A key goes also where its request is still under way, or was never answered.
 */
export async function removeAnswersAbout(db: Database, box: SecretBox, scope: Scope, text: string): Promise<number> {
  const escaped = JSON.stringify(text).slice(1, -1);
  let removed = await removeKeysHolding(db, scope, text);
  for (let after = ''; ; ) {
    const rows = await listAnswers(db, scope, after, OPENED_AT_ONCE);
    await box.learn(rows.map(({ response_box }) => response_box));
    const holding = rows.filter(({ key, response_box }) => {
      const body = openAnswer(box, response_box, scope, key).body ?? '';
      return body.includes(text) || body.includes(escaped);
    });
    const keys = holding.map(({ key }) => key);
    await removeAnswers(db, scope, keys);
    removed += keys.length;
    const last = rows.at(-1);
    if (last === undefined || rows.length < OPENED_AT_ONCE) return removed;
    after = last.key;
  }
}

function replay(reply: FastifyReply, status: number, answer: Answer): void {
  reply.code(status).header('idempotent-replayed', 'true');
  if (answer.contentType !== undefined) reply.header('content-type', answer.contentType);
  reply.send(answer.body);
}

function placeOf(scope: Scope, key: string): string {
  return sealedPlace(SEALED_COLUMNS.idempotentResponse, scope.tenantId, scope.environmentId, key);
}

/** Keyed, because a body may be a short secret that a plain hash would give away. */
function hashRequest(request: FastifyRequest, box: SecretBox): Buffer {
  const hash = createHash('sha256').update(request.url).update('\n');
  if (request.rawJson !== undefined) hash.update(request.rawJson.bytes);
  // What is kept is what the first caller was shown.
  if (!permits(request.caller, 'reveal')) hash.update('\nmasked');
  return box.hashKey(`idempotent request ${hash.digest('hex')}`);
}
