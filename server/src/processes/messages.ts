import type pg from 'pg';
import type { Config } from '../config.ts';
import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import type { MasterKeySource } from '../encryption/key-files.ts';
import type { MetricsSnapshot } from '../operations/metrics.ts';

/** All that a worker needs to be a node. It travels over the channel between the processes, never in an argument. */
export interface WorkerOrders {
  config: Config;
  connection: pg.ClientConfig;
  operatorKey: string;
  masterKeys: MasterKeySource;
  soleNode: boolean;
  apiConnectionsMax: number;
}

/** What a worker cannot know by itself. */
export interface ProgramState {
  outage: DatabaseOutage | undefined;
  running: number;
  of: number;
}

export type ToWorker =
  | { kind: 'start'; orders: WorkerOrders; state: ProgramState }
  | { kind: 'state'; state: ProgramState }
  /** Answered with `metrics`. */
  | { kind: 'read metrics' }
  | { kind: 'program metrics'; request: number; text: string }
  /** Drain and end. */
  | { kind: 'stop' };

export type FromWorker =
  /** It listens to what it is told. */
  | { kind: 'awake' }
  | { kind: 'ready'; url: string; nodeId: number }
  /** It has another number than before. */
  | { kind: 'node'; nodeId: number }
  /** It could not start. `expected`: the message is one line for the person who started the program. */
  | { kind: 'failed'; message: string; expected: boolean }
  | { kind: 'metrics'; snapshot: MetricsSnapshot }
  /** Answered with `program metrics`. */
  | { kind: 'read program metrics'; request: number };
