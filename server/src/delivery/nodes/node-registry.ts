import type pg from 'pg';
import type { Clock } from '../../kernel/clock.ts';
import { firstIdAt } from '../../kernel/ids.ts';

/** A node that no longer answers for its leases. */
export interface DeadNode {
  id: number;
  oldestLeasedId: string;
}

/** A node is taken for dead when its heartbeat is older than this by the database's clock. */
export const NODE_SILENCE_MS_MAX = 8_000;

/**
 * A commit that is under way may hold ids this much older than the node's oldest task: a bound over every statement
 * timeout, so that the search for leases never begins too late.
 */
export const COMMIT_MS_MAX = 120_000;

/**
 * The running nodes, as rows of `nodes`. Times are the database's, so that nodes whose clocks differ agree on who is
 * alive. An id is never used twice: a lease with the id of a node that is gone belongs to nobody.
 */
export class NodeRegistry {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;

  constructor(pool: pg.Pool, clock: Clock) {
    this.#pool = pool;
    this.#clock = clock;
  }

  /** Makes this process a node and gives its number. */
  async join(): Promise<number> {
    const result = await this.#pool.query<{ id: number }>(
      'INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id) VALUES (now(), now(), $1) RETURNING id',
      [this.#oldest(undefined)],
    );
    const id = result.rows[0]?.id;
    if (id === undefined) throw new Error('The database gave no node number.');
    return id;
  }

  /**
   * Says that the node lives and how old its oldest lease is; gives the id before which it has none, or undefined when
   * others have taken it for dead. `inDoubt`: it may have leases that it does not know of, so the mark only goes back.
   */
  async beat(nodeId: number, oldestTaskId: string | undefined, inDoubt: boolean): Promise<string | undefined> {
    const result = await this.#pool.query<{ oldest_leased_id: string }>(
      `UPDATE nodes SET heartbeat_at = now(),
         oldest_leased_id = CASE WHEN $3 THEN least(oldest_leased_id, $2) ELSE $2::uuid END
       WHERE id = $1 RETURNING oldest_leased_id`,
      [nodeId, this.#oldest(oldestTaskId), inDoubt],
    );
    return result.rows[0]?.oldest_leased_id;
  }

  /**
   * The other nodes: those alive, and those that are silent for too long. `sole`: this process is the only one that can
   * be running on the database, so every other node is dead however young its beat.
   */
  async findOthers(ownId: number, sole: boolean): Promise<{ alive: number[]; dead: DeadNode[] }> {
    const result = await this.#pool.query<{ id: number; oldest_leased_id: string; dead: boolean }>(
      `SELECT id, oldest_leased_id, $2 OR heartbeat_at < now() - make_interval(secs => $3) AS dead
       FROM nodes WHERE id <> $1 ORDER BY id`,
      [ownId, sole, NODE_SILENCE_MS_MAX / 1000],
    );
    return {
      alive: result.rows.filter((row) => !row.dead).map((row) => row.id),
      dead: result.rows.filter((row) => row.dead).map((row) => ({ id: row.id, oldestLeasedId: row.oldest_leased_id })),
    };
  }

  /** Forgets a node whose leases are all freed. */
  async remove(nodeId: number): Promise<void> {
    await this.#pool.query('DELETE FROM nodes WHERE id = $1', [nodeId]);
  }

  #oldest(oldestTaskId: string | undefined): string {
    const bound = firstIdAt(this.#clock.now() - COMMIT_MS_MAX);
    return oldestTaskId !== undefined && oldestTaskId < bound ? oldestTaskId : bound;
  }
}
