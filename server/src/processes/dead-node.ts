import type pg from 'pg';

/** How long sessions of a dead process may take to end before its leases are freed without waiting for them. */
const SESSION_END_MS_MAX = 5_000;

/**
 * Lets the other nodes take over at their next beat what a process that is certainly dead had in hand, instead of after
 * a silence. Its sessions are ended first: a commit that is still under way in one of them would lease rows to a node
 * that nobody remembers.
 *
 * @param sessionName `application_name` of all its connections, and of no others.
 */
export async function giveUpDeadNode(pool: pg.Pool, nodeId: number, sessionName: string): Promise<void> {
  await pool.query('SELECT pg_terminate_backend(pid, $2) FROM pg_stat_activity WHERE application_name = $1', [
    sessionName,
    SESSION_END_MS_MAX,
  ]);
  await pool.query("UPDATE nodes SET heartbeat_at = '-infinity' WHERE id = $1", [nodeId]);
}
