import type pg from 'pg';
import type { SecretBox } from '../kernel/secret-box.ts';
import { SEALED_COLUMNS, type SealedColumn, sealedPlace } from './sealed-columns.ts';

/** What one walk over a column did. */
export interface ResealedColumn {
  resealed: number;
  /** Changed or held by somebody else meanwhile: the next walk finds them. */
  passedOver: number;
  /** Places of values that do not open: `table/row/column`. They stay as they are. */
  unreadable: string[];
}

/** Rows looked at in one statement, and changed in another. A statement takes some 20 ms. */
const BATCH_ROWS = 500;

/**
 * Seals what is sealed with another than the current data key anew, a batch at a time, while others read and write: a
 * row that was changed since it was read keeps its new value, and one that somebody has locked is not waited for, so
 * that nobody who waits for a row of the batch can make a deadlock of it.
 */
export async function resealColumn(
  pool: Pick<pg.Pool, 'query'>,
  column: SealedColumn,
  options: { box: SecretBox; currentKey: number },
): Promise<ResealedColumn> {
  const { box, currentKey } = options;
  const { selectFirst, selectNext, update } = statementsOf(column);
  const done: ResealedColumn = { resealed: 0, passedOver: 0, unreadable: [] };
  let last: string[] | undefined;
  for (;;) {
    const page = await pool.query<{ row: string[]; box: Buffer | null }>(
      last === undefined ? selectFirst : selectNext,
      last === undefined ? [currentKey] : [currentKey, ...last],
    );
    const changes: { row: string[]; before: Buffer; after: Buffer }[] = [];
    for (const { row, box: before } of page.rows) {
      if (before === null) continue;
      const place = sealedPlace(column, ...row);
      try {
        changes.push({ row, before, after: box.seal(box.open(before, place), place) });
      } catch {
        done.unreadable.push(place);
      }
    }
    if (changes.length > 0) {
      const result = await pool.query(update, [
        ...column.key.map((_, at) => changes.map(({ row }) => row[at])),
        changes.map(({ before }) => before),
        changes.map(({ after }) => after),
      ]);
      done.resealed += result.rowCount ?? 0;
      done.passedOver += changes.length - (result.rowCount ?? 0);
    }
    last = page.rows.at(-1)?.row;
    if (last === undefined || page.rows.length < BATCH_ROWS) return done;
  }
}

/** How many values are sealed with another than the current data key. It reads all of them. */
export async function countSealedOtherwise(db: Pick<pg.Pool, 'query'>, currentKey: number): Promise<number> {
  let count = 0;
  for (const { table, column } of Object.values(SEALED_COLUMNS)) {
    const result = await db.query<{ count: string }>(
      `SELECT count(*) FROM ${table} WHERE ${column} IS NOT NULL AND sealing_key(${column}) <> $1`,
      [currentKey],
    );
    count += Number(result.rows[0]?.count);
  }
  return count;
}

/** Names come from `SEALED_COLUMNS` alone. */
function statementsOf({ table, column, key }: SealedColumn) {
  const names = key.map(({ name }) => name);
  const row = `ARRAY[${names.map((name) => `${name}::text`).join(', ')}] AS row`;
  const select = (where: string) => `
    SELECT ${row}, CASE WHEN sealing_key(${column}) <> $1 THEN ${column} END AS box
    FROM ${table} ${where} ORDER BY ${names.join(', ')} LIMIT ${BATCH_ROWS}`;
  const behind = key.map(({ type }, at) => `$${at + 2}::${type}`).join(', ');
  const arrays = [...key.map(({ type }) => type), 'bytea', 'bytea'].map((type, at) => `$${at + 1}::${type}[]`);
  const same = (left: string, right: string) => names.map((name) => `${left}.${name} = ${right}.${name}`).join(' AND ');
  return {
    selectFirst: select(''),
    selectNext: select(`WHERE (${names.join(', ')}) > (${behind})`),
    update: `
      WITH given AS (
        SELECT * FROM unnest(${arrays.join(', ')}) AS given (${names.join(', ')}, before, after)
      ), locked AS (
        SELECT given.* FROM given JOIN ${table} AS found ON ${same('found', 'given')}
        WHERE found.${column} = given.before
        FOR NO KEY UPDATE OF found SKIP LOCKED
      )
      UPDATE ${table} AS changed SET ${column} = locked.after FROM locked
      WHERE ${same('changed', 'locked')} AND changed.${column} = locked.before`,
  };
}
