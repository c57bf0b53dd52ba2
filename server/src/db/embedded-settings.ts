/**
 * Server settings of the embedded PostgreSQL, for one machine that Posthorn shares with it. They are given on the
 * command line, so that a new version of Posthorn changes them for clusters that exist.
 */
export const EMBEDDED_SETTINGS: Readonly<Record<string, string>> = {
  // Only a Unix socket: nothing on the machine's network can reach the server.
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '60',
  shared_buffers: '256MB',
  // The kernel's memory limits differ from machine to machine; huge pages buy nothing at this size.
  huge_pages: 'off',

  // A 202 promises that the event is on disk.
  fsync: 'on',
  full_page_writes: 'on',
  // A new segment of the log is written once, not twice; what is flushed is on disk all the same.
  wal_init_zero: 'off',
  synchronous_commit: 'on',
  // A finished segment of the log becomes the next one, so that it is written into memory that the kernel has already:
  // memory that is touched for the first time costs more than the writing itself. A small log is also soon read after a
  // crash. Its price is images of pages that are changed again after a checkpoint; most rows are changed within a second,
  // on the last pages of their table. The images stay uncompressed: this build knows only pglz, and the processor is
  // scarcer here than the disk.
  min_wal_size: '512MB',
  max_wal_size: '512MB',
  checkpoint_timeout: '15min',

  // Queries are short: compiling them, or spreading them over workers, costs the deliveries more than it gains.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  random_page_cost: '1.1',
  // A day of deliveries is read for its statistics again and again while it grows: a tenth of the usual sample will do.
  default_statistics_target: '10',

  // Rows of deliveries are updated once or twice and soon dropped with their partition: clean often, in small steps.
  autovacuum_naptime: '15s',
  autovacuum_vacuum_scale_factor: '0.05',
  autovacuum_vacuum_insert_scale_factor: '0.1',
  autovacuum_analyze_scale_factor: '0.05',
  autovacuum_vacuum_cost_limit: '2000',

  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  cluster_name: 'posthorn',

  // The log goes to Posthorn line by line. Details and statements quote stored values, so they stay out of it.
  log_destination: 'stderr',
  logging_collector: 'off',
  log_line_prefix: '[%p] ',
  log_error_verbosity: 'terse',
  log_min_error_statement: 'panic',
};
