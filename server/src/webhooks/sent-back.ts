import { isDeepStrictEqual } from 'node:util';
import { Type } from 'typebox';
import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import type { WebhookChange, WebhookShown } from './schema.ts';

/** Of a webhook's answer, what it is: sent back, it has to be the same. */
const IDENTITY = ['id', 'tenant_id', 'environment'] as const;

/** What Posthorn says of a webhook. It may have moved on by the time that it is sent back. */
const SAID = [
  'status_reason',
  'signing_public_key',
  'circuit_state',
  'circuit_reopens_at',
  'total_deliveries',
  'successful_deliveries',
  'failed_deliveries',
  'filtered_deliveries',
  'last_triggered_at',
  'created_at',
  'updated_at',
] as const;

const readOnly = Type.Optional(
  Type.Unsafe<unknown>({ readOnly: true, description: 'Left aside in what GET answered, sent back with its `id`.' }),
);

/** The fields of an answer that a body of PUT or PATCH may have, and does not change. */
export const ReadOnlyFields = { ...fields(IDENTITY), ...fields(SAID) };

/**
 * What a body changes. With the webhook's `id` in it, it is what GET answered, sent back with some of it set: read-only
 * fields are left aside, and so is all that is as it is shown. Else `is_active: false` would not go with the `status`
 * that came with it, and what the preset decides would become the webhook's own.
 *
 * @param shown the webhook as the caller sees it.
 * @throws AppError 422 naming every read-only field that is wanted otherwise.
 */
export function changesIn(body: WebhookChange, shown: WebhookShown): WebhookChange {
  const isSentBack = body.id !== undefined;
  const problems: FieldProblem[] = [
    ...IDENTITY.filter((name) => body[name] !== undefined && body[name] !== shown[name]),
    ...SAID.filter((name) => body[name] !== undefined && !isSentBack),
  ].map((path) => ({ path, message: 'cannot be changed' }));
  if (problems.length > 0) throw invalidFields(problems);
  if (!isSentBack) return body;
  const before: Record<string, unknown> = { ...shown, custom_headers: shown.headers };
  const changes = Object.entries(body).filter(([name, value]) => !isDeepStrictEqual(value, before[name]));
  return Object.fromEntries(changes);
}

function fields<Name extends string>(names: readonly Name[]): Record<Name, typeof readOnly> {
  return Object.fromEntries(names.map((name) => [name, readOnly])) as Record<Name, typeof readOnly>;
}
