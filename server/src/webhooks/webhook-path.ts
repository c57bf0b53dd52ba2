import { Type } from 'typebox';
import { notFound } from '../kernel/errors.ts';
import { parseId } from '../kernel/ids.ts';

/** The path of everything of one webhook. */
export const WebhookPath = Type.Object({ id: Type.String({ description: '`whk_…`' }) });

/** The UUID in such a path. @throws AppError 404 for a text that can be no webhook's id. */
export function webhookId(text: string): string {
  const id = parseId('webhook', text);
  if (id === undefined) throw notFound('webhook');
  return id;
}
