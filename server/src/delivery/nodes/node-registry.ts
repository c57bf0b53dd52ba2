import type pg from 'pg';
import type { Clock } from '../../kernel/clock.ts';
import { firstIdAt } from '../../kernel/ids.ts';

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
  async findOthers(ownId: number, sole: boolean): Promise<{ alive: number[]; dead: number[] }> {
    const result = await this.#pool.query<{ id: number; dead: boolean }>(
      `SELECT id, $2 OR heartbeat_at < now() - make_interval(secs => $3) AS dead
       FROM nodes WHERE id <> $1 ORDER BY id`,
      [ownId, sole, NODE_SILENCE_MS_MAX / 1000],
    );
    return {
      alive: result.rows.filter((row) => !row.dead).map((row) => row.id),
      dead: result.rows.filter((row) => row.dead).map((row) => row.id),
    };
  }

  /**
   * Forgets a dead node, and has its leases freed in the same transaction: `free` frees them, from an oldest id on, and
   * gives their number. A claim that the node left unfinished is waited for, and none can begin meanwhile, since a claim
   * holds the node's row. Gives 0 when somebody else was first, or the node is heard of again.
   */
  async bury(
    nodeId: number,
    sole: boolean,
    free: (oldestLeasedId: string, client: pg.PoolClient) => Promise<number>,
  ): Promise<number> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      const found = await client.query<{ oldest_leased_id: string }>(
        `SELECT oldest_leased_id FROM nodes
         WHERE id = $1 AND ($2 OR heartbeat_at < now() - make_interval(secs => $3)) FOR UPDATE`,
        [nodeId, sole, NODE_SILENCE_MS_MAX / 1000],
      );
      const [node] = found.rows;
      const freed = node === undefined ? 0 : await free(node.oldest_leased_id, client);
      if (node !== undefined) await client.query('DELETE FROM nodes WHERE id = $1', [nodeId]);
      await client.query('COMMIT');
      return freed;
    } catch (error) {
      broken = error instanceof Error ? error : new Error('a dead node could not be removed');
      throw error;
    } finally {
      // A connection with an open transaction is not given back: closing it undoes the transaction.
      client.release(broken);
    }
  }

  /** Forgets a node that has nothing in hand. */
  async remove(nodeId: number): Promise<void> {
    await this.#pool.query('DELETE FROM nodes WHERE id = $1', [nodeId]);
  }

  #oldest(oldestTaskId: string | undefined): string {
    const bound = firstIdAt(this.#clock.now() - COMMIT_MS_MAX);
    return oldestTaskId !== undefined && oldestTaskId < bound ? oldestTaskId : bound;
  }
}
