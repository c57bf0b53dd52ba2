import { validate } from 'uuid';
import { malformed } from './errors.ts';

/** A list's place: the id of the last row given. Opaque to clients; ids only grow, so pages never shift. */
export function encodeCursor(lastId: string): string {
  return Buffer.from(lastId.replaceAll('-', ''), 'hex').toString('base64url');
}

/** @throws AppError 400 for anything `encodeCursor` did not make. */
export function decodeCursor(cursor: string): string {
  const hex = Buffer.from(cursor, 'base64url').toString('hex');
  const uuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  if (!validate(uuid) || encodeCursor(uuid) !== cursor) {
    throw malformed('The cursor is not one that this API gave; start again without it.', 'invalid_cursor');
  }
  return uuid;
}
