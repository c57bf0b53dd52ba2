import type {} from '@fastify/swagger';
import type { FastifyRequest } from 'fastify';
import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../../audit/auditor.ts';
import { hidden, hiddenUrl } from '../../audit/changed-fields.ts';
import type { AuditLog } from '../../audit/log.ts';
import type { Change } from '../../db/notify.ts';
import { type Database, errorCode } from '../../db/pool.ts';
import type { Tables } from '../../db/tables.ts';
import { SEALED_COLUMNS, sealedPlace } from '../../encryption/sealed-columns.ts';
import { PageOf, PageQuery, readPage, toPage } from '../../http/pagination.ts';
import type { HttpServer } from '../../http/server.ts';
import type { Clock } from '../../kernel/clock.ts';
import { conflict, invalidField, notFound } from '../../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../../kernel/ids.ts';
import type { SecretBox } from '../../kernel/secret-box.ts';
import { findTenant, notify, readTenantRef } from '../../tenants/queries.ts';
import { NoContent } from '../../tenants/route-parts.ts';
import { DEFAULT_CLAIMS, readClaimNames } from './issuer.ts';
import {
  countIssuers,
  deleteIssuer,
  findIssuer,
  insertIssuer,
  type JwtIssuerRow,
  listIssuers,
  lockIssuer,
  updateIssuer,
} from './queries.ts';
import {
  CLOCK_SKEW_SECONDS,
  DEFAULT_ENVIRONMENT,
  IssuerChange,
  IssuerShown,
  MAX_LIFETIME_SECONDS,
  NewIssuer,
  SECRET_BYTES_MIN,
  showIssuer,
} from './schema.ts';

export interface JwtIssuerRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  box: SecretBox;
  /** The reason why nothing may be fetched from a URL, for the person who wrote it; undefined for a good one. */
  judgeUrl: (url: string) => Promise<string | undefined>;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange?: (change: Change) => void;
}

/** Issuers that a program may have: each node holds all of them in memory. */
const ISSUERS_MAX = 1_000;

/**
 * `/api/v1/jwt-issuers`: whose JWTs are taken. For the operator only, also those that speak for one tenant: who signs a
 * tenant's tokens decides who is its owner, and tenants should not choose what every node fetches.
 */
export function registerJwtIssuerRoutes(app: HttpServer, deps: JwtIssuerRouteDeps): void {
  const { db, clock, newId, audit } = deps;
  const config = { permission: 'operate' } as const;
  const tags = ['JWT issuers'];

  const change = async <Rows extends { before?: JwtIssuerRow; after?: JwtIssuerRow }>(
    request: FastifyRequest,
    action: `jwt_issuer.${'created' | 'updated' | 'deleted'}`,
    work: (trx: Transaction<Tables>) => Promise<Rows>,
  ): Promise<Rows> => {
    const notice = { topic: 'jwt_issuers', tenantId: request.caller.tenantId } as const;
    try {
      const rows = await db.transaction().execute(async (trx) => {
        const changed = await work(trx);
        const { before, after } = changed;
        await notify(trx, notice);
        await audit.record(trx, auditorOf(request), {
          action,
          resourceType: 'jwt_issuer',
          resourceId: formatId('jwtIssuer', (after ?? before)?.id as string),
          environmentId: null,
          ofPlatform: true,
          before: before && auditedIssuer(before),
          after: after && auditedIssuer(after),
        });
        return changed;
      });
      deps.onChange?.(notice);
      return rows;
    } catch (error) {
      // The tenant was deleted after it was looked up.
      throw errorCode(error) === FOREIGN_KEY_VIOLATION ? invalidField('tenant', NO_TENANT) : error;
    }
  };

  app.post(
    '/api/v1/jwt-issuers',
    {
      config,
      schema: { tags, summary: 'Take the JWTs of an issuer', body: NewIssuer, response: { 201: IssuerShown } },
    },
    async (request, reply) => {
      const { body } = request;
      const { name, issuer, audience } = body;
      const now = new Date(clock.now());
      const blank = { ...BLANK, id: newId(), name, issuer, audience, created_at: now, updated_at: now };
      const row = merge(blank, await judgeChange(deps, body), deps.box, now);
      await change(request, 'jwt_issuer.created', async (trx) => {
        if ((await countIssuers(trx)) >= ISSUERS_MAX) {
          throw conflict('too_many_jwt_issuers', `There may be ${ISSUERS_MAX} JWT issuers; remove one first.`);
        }
        await insertIssuer(trx, row);
        return { after: row };
      });
      return reply.code(201).send(showIssuer(row));
    },
  );

  app.get(
    '/api/v1/jwt-issuers',
    {
      config,
      schema: {
        tags,
        summary: 'List JWT issuers',
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(IssuerShown) },
      },
    },
    async (request) => {
      const page = readPage(request.query);
      return toPage(await listIssuers(db, page), page.limit, (row) => row.id, showIssuer);
    },
  );

  app.get(
    '/api/v1/jwt-issuers/:id',
    { config, schema: { tags, summary: 'Read a JWT issuer', params: IssuerPath, response: { 200: IssuerShown } } },
    async (request) => showIssuer(found(await findIssuer(db, issuerId(request.params.id)))),
  );

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/jwt-issuers/:id',
    config,
    schema: {
      tags,
      summary: 'Change a JWT issuer; absent fields stay',
      description: 'Tokens that were taken before are judged anew, on every node.',
      params: IssuerPath,
      body: IssuerChange,
      response: { 200: IssuerShown },
    },
    handler: async (request) => {
      const id = issuerId(request.params.id);
      const judged = await judgeChange(deps, request.body);
      const { after } = await change(request, 'jwt_issuer.updated', async (trx) => {
        const before = found(await lockIssuer(trx, id));
        const after = merge(before, judged, deps.box, new Date(clock.now()));
        await updateIssuer(trx, after);
        return { before, after };
      });
      return showIssuer(after);
    },
  });

  app.delete(
    '/api/v1/jwt-issuers/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Take no more JWTs of an issuer, at once',
        params: IssuerPath,
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const id = issuerId(request.params.id);
      await change(request, 'jwt_issuer.deleted', async (trx) => {
        const before = found(await lockIssuer(trx, id));
        await deleteIssuer(trx, id);
        return { before };
      });
      return reply.code(204).send();
    },
  );
}

const FOREIGN_KEY_VIOLATION = '23503';
const NO_TENANT = 'is not a tenant';

const IssuerPath = Type.Object({ id: Type.String({ description: 'TypeID, `iss_…`.' }) });

/** What a field has that was never set. */
const BLANK = {
  tenant_id: null,
  secret_box: null,
  jwks_url: null,
  clock_skew_seconds: CLOCK_SKEW_SECONDS,
  max_lifetime_seconds: MAX_LIFETIME_SECONDS,
  claims: DEFAULT_CLAIMS,
  roles: null,
  default_role: null,
  default_environment: DEFAULT_ENVIRONMENT,
};

/** A change whose parts that need a look elsewhere are good. */
interface JudgedChange extends Omit<IssuerChange, 'tenant'> {
  tenantId: string | null | undefined;
}

/** @throws AppError 422 */
async function judgeChange(deps: JwtIssuerRouteDeps, change: IssuerChange): Promise<JudgedChange> {
  if (typeof change.jwks_url === 'string') {
    const reason = await deps.judgeUrl(change.jwks_url);
    if (reason !== undefined) throw invalidField('jwks_url', reason);
  }
  const { tenant, ...rest } = change;
  return { ...rest, tenantId: typeof tenant === 'string' ? await idOfTenant(deps.db, tenant) : tenant };
}

/** The row after a change: an absent field stays, null brings its default back. @throws AppError 422 */
function merge(row: JwtIssuerRow, change: JudgedChange, box: SecretBox, now: Date): JwtIssuerRow {
  const pick = <T>(given: T | null | undefined, current: T, fallback: T): T =>
    given === undefined ? current : (given ?? fallback);
  const next: JwtIssuerRow = {
    ...row,
    name: change.name ?? row.name,
    issuer: change.issuer ?? row.issuer,
    audience: change.audience ?? row.audience,
    tenant_id: pick(change.tenantId, row.tenant_id, null),
    secret_box: change.secret === undefined ? row.secret_box : sealSecret(box, row.id, change.secret),
    jwks_url: pick(change.jwks_url, row.jwks_url, null),
    clock_skew_seconds: pick(change.clock_skew_seconds, row.clock_skew_seconds, BLANK.clock_skew_seconds),
    max_lifetime_seconds: pick(change.max_lifetime_seconds, row.max_lifetime_seconds, BLANK.max_lifetime_seconds),
    claims: mergeClaims(row.claims, change.claims),
    roles: pick<unknown>(change.roles, row.roles, null),
    default_role: pick(change.default_role, row.default_role, null),
    default_environment: pick(change.default_environment, row.default_environment, BLANK.default_environment),
    updated_at: now,
  };
  if ((next.secret_box === null) === (next.jwks_url === null)) {
    throw invalidField('secret', 'or "jwks_url" is needed, and not both; null clears one of them');
  }
  return next;
}

function mergeClaims(stored: unknown, change: IssuerChange['claims']) {
  const current = readClaimNames(stored);
  if (change === undefined) return current;
  const names = { ...current };
  for (const name of ['tenant', 'environment', 'role'] as const) {
    const given = change === null ? null : change[name];
    if (given !== undefined) names[name] = given ?? DEFAULT_CLAIMS[name];
  }
  return names;
}

function sealSecret(box: SecretBox, id: string, secret: string | null): Buffer | null {
  if (secret === null) return null;
  if (Buffer.byteLength(secret) < SECRET_BYTES_MIN) {
    throw invalidField('secret', `must have at least ${SECRET_BYTES_MIN} bytes`);
  }
  return box.seal(secret, sealedPlace(SEALED_COLUMNS.jwtIssuerSecret, id));
}

async function idOfTenant(db: Database, text: string): Promise<string> {
  const ref = readTenantRef(text);
  const row = ref && (await findTenant(db, ref));
  if (row === undefined) throw invalidField('tenant', NO_TENANT);
  return row.id;
}

/** As the audit log has it: a new secret shows, and what it is does not. */
function auditedIssuer(row: JwtIssuerRow) {
  const { updated_at: _, ...shown } = showIssuer(row);
  const secret = row.secret_box && hidden(row.secret_box.toString('base64'));
  return { ...shown, jwks_url: hiddenUrl(row.jwks_url), secret };
}

function issuerId(text: string): string {
  const id = parseId('jwtIssuer', text);
  if (id === undefined) throw notFound('JWT issuer');
  return id;
}

function found(row: JwtIssuerRow | undefined): JwtIssuerRow {
  if (row === undefined) throw notFound('JWT issuer');
  return row;
}
