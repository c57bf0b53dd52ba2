import type { Transaction } from 'kysely';
import type { Auditor } from '../audit/auditor.ts';
import type { AuditedAction, AuditLog } from '../audit/log.ts';
import { type Database, errorCode } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { conflict, type FieldProblem, invalidField, invalidFields, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import { isSecretHeader } from '../masking/secret-names.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import {
  contentProblem,
  DEFAULT_CONTENT,
  fieldProblem,
  programOf,
  type TemplateContent,
} from '../shaping/transformation.ts';
import { lockEnvironment } from '../tenants/environment-preset.ts';
import { notify } from '../tenants/queries.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { HEADERS_MAX, headerProblem } from '../webhooks/headers.ts';
import {
  countTemplates,
  findTemplate,
  insertVersion,
  listVersions,
  lockTemplate,
  type TemplateRow,
  webhooksInNeedOf,
} from './rows.ts';
import type { TemplateChange } from './schema.ts';

export interface TemplateStore {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  directory: Pick<WebhookDirectory, 'invalidate'>;
  sandbox: Pick<Sandbox, 'check' | 'run'>;
}

type Changer = Auditor & Scope;

const UNIQUE_VIOLATION = '23505';

/** Templates that an environment may have. */
const TEMPLATES_MAX = 1_000;

/** @throws AppError 422 for what cannot be run, 409 for a name that is taken and beyond 1,000. Gives the UUID. */
export async function createTemplate(store: TemplateStore, by: Changer, body: TemplateChange): Promise<string> {
  const content = await judgedContent(store, by, undefined, body);
  const { name = '', event_type: eventType = null, description = null } = body;
  refuseIdAsName(name);
  const id = store.newId();
  await change(store, by, async (trx, now) => {
    await lockEnvironment(trx, by);
    if ((await countTemplates(trx, by)) >= TEMPLATES_MAX) {
      throw conflict('too_many_templates', `An environment has at most ${TEMPLATES_MAX} templates.`);
    }
    const made = await trx
      .insertInto('templates')
      .values({
        tenant_id: by.tenantId,
        id,
        environment_id: by.environmentId,
        name,
        event_type: eventType,
        description,
        version: 1,
        last_version: 1,
        created_at: now,
        updated_at: now,
      })
      .onConflict((conflicting) => conflicting.doNothing())
      .executeTakeFirst();
    if (Number(made.numInsertedOrUpdatedRows ?? 0) === 0) throw nameTaken(name, eventType);
    await insertVersion(trx, { tenantId: by.tenantId, id, version: 1, content }, now);
    const after = audited({ name, event_type: eventType, description, version: 1, content });
    return { ...doneTo(id, 'created'), after };
  });
  return id;
}

/** A change of what it says makes a new version, which is in force from the commit on. @throws AppError 404, 409, 422 */
export async function changeTemplate(
  store: TemplateStore,
  by: Changer,
  id: string,
  body: TemplateChange,
): Promise<void> {
  const current = await findTemplate(store.db, by, id);
  if (current === undefined) throw notFound('template');
  const content = await judgedContent(store, by, current.content, body);
  if (body.name !== undefined) refuseIdAsName(body.name);
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    // What was judged was this content with the change; another change came between.
    if (row.version !== current.version) throw conflict('template_changed', 'The template was changed meanwhile.');
    const name = body.name ?? row.name;
    const eventType = body.event_type === undefined ? row.event_type : body.event_type;
    if (name !== row.name) await refuseInUse(trx, row);
    if (name !== row.name || eventType !== row.event_type) await refuseTaken(trx, row, name, eventType);
    const isNew = JSON.stringify(content) !== JSON.stringify(row.content);
    const version = isNew ? row.last_version + 1 : row.version;
    const description = body.description === undefined ? row.description : body.description;
    if (isNew) await insertVersion(trx, { tenantId: by.tenantId, id, version, content }, now);
    const last_version = Math.max(version, row.last_version);
    const columns = { name, event_type: eventType, description, version, last_version, updated_at: now };
    await update(trx, row, columns).catch((error: unknown) => {
      // Another has been given the name since it was looked for.
      throw errorCode(error) === UNIQUE_VIOLATION ? nameTaken(name, eventType) : error;
    });
    const after = audited({ name, event_type: eventType, description, version, content });
    return { ...doneTo(id, 'updated'), before: audited(row), after };
  });
}

/**
 * Puts an earlier version in force, under its own number.
 *
 * @throws AppError 404, and 422 for one that can no longer be run: rules and engines change, versions do not.
 */
export async function rollBackTemplate(store: TemplateStore, by: Changer, id: string, version: number): Promise<void> {
  await refuseUnrunnable(store, by, id, version);
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    const found = (await listVersions(trx, by.tenantId, id)).find((each) => each.version === version);
    if (found === undefined) throw notFound('version of this template');
    await update(trx, row, { version, updated_at: now });
    const after = audited({ ...row, version, content: found.content });
    return { ...doneTo(id, 'rolled_back'), before: audited(row), after };
  });
}

/** @throws AppError 404, and 409 while a webhook has no other template of the name. */
export async function deleteTemplate(store: TemplateStore, by: Changer, id: string): Promise<void> {
  await change(store, by, async (trx) => {
    const row = await lockOrThrow(trx, by, id);
    await refuseInUse(trx, row);
    await trx.deleteFrom('templates').where('tenant_id', '=', by.tenantId).where('id', '=', id).execute();
    return { ...doneTo(id, 'deleted'), before: audited(row) };
  });
}

async function refuseUnrunnable(store: TemplateStore, by: Changer, id: string, version: number): Promise<void> {
  const row = await findTemplate(store.db, by, id);
  if (row === undefined) throw notFound('template');
  const content = (await listVersions(store.db, by.tenantId, id)).find((each) => each.version === version)?.content;
  if (content === undefined) throw notFound('version of this template');
  const problem = contentProblem(content) ?? headerProblems(content.headers ?? {})[0];
  const fault = problem === undefined ? await store.sandbox.check(by.tenantId, programOf(content, [])) : undefined;
  const wrong = problem ?? (fault && fieldProblem('', fault));
  if (wrong === undefined) return;
  const { path, message, ...place } = wrong;
  throw invalidFields([{ path: 'version', message: `can no longer be run: ${path}: ${message}`, ...place }]);
}

/** The content after a change, which can be run. @throws AppError 422 */
async function judgedContent(
  { sandbox }: TemplateStore,
  by: Changer,
  current: TemplateContent | undefined,
  body: TemplateChange,
): Promise<TemplateContent> {
  const before = current ?? { template: null, ...DEFAULT_CONTENT };
  const content: TemplateContent = {
    template: body.template ?? before.template,
    language: body.language === undefined ? before.language : (body.language ?? DEFAULT_CONTENT.language),
    native: body.native === undefined ? before.native : (body.native ?? DEFAULT_CONTENT.native),
    content_type:
      body.content_type === undefined ? before.content_type : (body.content_type ?? DEFAULT_CONTENT.content_type),
    headers: body.headers === undefined ? (before.headers ?? {}) : (body.headers ?? {}),
  };
  const problem = contentProblem(content);
  const problems = [...(problem === undefined ? [] : [problem]), ...headerProblems(content.headers ?? {})];
  if (problems.length > 0) throw invalidFields(problems);
  const fault = await sandbox.check(by.tenantId, programOf(content, []));
  if (fault !== undefined) throw invalidFields([fieldProblem('', fault)]);
  return content;
}

function headerProblems(headers: Readonly<Record<string, string>>): FieldProblem[] {
  const entries = Object.entries(headers);
  if (entries.length > HEADERS_MAX) return [{ path: 'headers', message: `must be at most ${HEADERS_MAX}` }];
  const seen = new Set<string>();
  return entries.flatMap(([name, value]) => {
    const key = name.toLowerCase();
    const message = seen.has(key)
      ? 'is given twice, in different case'
      : isSecretHeader(name)
        ? 'is a credential: set it as a header of the webhook, where it is sealed'
        : headerProblem(name, value);
    seen.add(key);
    return message === undefined ? [] : [{ path: `headers.${name.slice(0, 100)}`, message }];
  });
}

function refuseIdAsName(name: string): void {
  if (name.startsWith('tpl_')) throw invalidField('name', 'must not begin with "tpl_", as ids do');
}

async function refuseTaken(trx: Transaction<Tables>, row: TemplateRow, name: string, eventType: string | null) {
  const taken = await trx
    .selectFrom('templates')
    .select('id')
    .where('tenant_id', '=', row.tenant_id)
    .where('environment_id', '=', row.environment_id)
    .where('name', '=', name)
    .where('event_type', eventType === null ? 'is' : '=', eventType)
    .where('id', '<>', row.id)
    .executeTakeFirst();
  if (taken !== undefined) throw nameTaken(name, eventType);
}

function nameTaken(name: string, eventType: string | null) {
  const of = eventType === null ? 'for all event types' : `for ${eventType}`;
  return conflict('template_exists', `There already is a template "${name}" ${of}.`);
}

async function refuseInUse(trx: Transaction<Tables>, row: TemplateRow): Promise<void> {
  const names = await webhooksInNeedOf(trx, row);
  if (names.length > 0) {
    const quoted = names.map((name) => `"${name}"`).join(', ');
    throw conflict('template_in_use', `Webhooks are shaped by it: ${quoted}. Change their transformation first.`);
  }
}

/** One change in one transaction, told to every node when it commits, and to this one before the answer. */
async function change(
  store: TemplateStore,
  by: Changer,
  work: (trx: Transaction<Tables>, now: Date) => Promise<AuditedAction>,
): Promise<void> {
  const { tenantId, environmentId } = by;
  try {
    await store.db.transaction().execute(async (trx) => {
      const done = await work(trx, new Date(store.clock.now()));
      // A webhook is read with the templates that it names.
      await notify(trx, { topic: 'webhooks', tenantId, environmentId });
      await store.audit.record(trx, by, done);
    });
  } finally {
    // Also after a failure: a connection lost during the commit leaves open whether it happened.
    store.directory.invalidate(tenantId, environmentId);
  }
}

async function lockOrThrow(trx: Transaction<Tables>, by: Changer, id: string): Promise<TemplateRow> {
  const row = await lockTemplate(trx, by, id);
  if (row === undefined) throw notFound('template');
  return row;
}

async function update(
  trx: Transaction<Tables>,
  { tenant_id, id }: TemplateRow,
  columns: Partial<Omit<TemplateRow, 'tenant_id' | 'id' | 'content'>>,
): Promise<void> {
  await trx.updateTable('templates').set(columns).where('tenant_id', '=', tenant_id).where('id', '=', id).execute();
}

function doneTo(id: string, action: string) {
  return { action: `template.${action}`, resourceType: 'template', resourceId: formatId('template', id) } as const;
}

function audited({
  name,
  event_type,
  description,
  version,
  content,
}: Pick<TemplateRow, 'name' | 'event_type' | 'description' | 'version' | 'content'>): object {
  return { name, event_type, description, version, ...content };
}
