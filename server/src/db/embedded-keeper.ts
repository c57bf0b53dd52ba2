import { type Clock, systemClock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { RestartDelay } from '../kernel/restart-delay.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded.ts';

/** Why the embedded database is away: it is started again, or it finds no room (then it may still answer queries). */
export type DatabaseOutage = 'restarting' | 'storage_full';

export interface KeepOptions {
  /** As for `startEmbeddedPostgres`. */
  dataDirectory: string;
  settings?: Record<string, string>;
  logger: Logger;
  clock?: Clock;
  /** Called when an outage begins, when another reason for it is known, and with undefined when it is over. */
  onOutage?: (outage: DatabaseOutage | undefined) => void;
}

/** An embedded PostgreSQL that is started again whenever it ends. */
export interface KeptPostgres {
  /** The same after each restart. */
  connection: EmbeddedPostgres['connection'];
  outage(): DatabaseOutage | undefined;
  /** Ends it for good; a start under way is given up. */
  stop(): Promise<void>;
}

/**
 * Starts the embedded PostgreSQL and keeps it running: when it ends, whoever ended it, it is started again with the
 * recovery that this takes, at once at first and then every ten seconds at least, for as long as it takes.
 *
 * @throws StartupError when the first start fails.
 */
export async function keepEmbeddedPostgres(options: KeepOptions): Promise<KeptPostgres> {
  const keeper = new Keeper(options);
  await keeper.start();
  return keeper;
}

/** For so long after a statement found no room the disk is taken for full. */
const FULL_DISK_MS = 10_000;

/** A full disk fails every statement; one line in a while says so. */
const TELL_FULL_DISK_EVERY_MS = 30_000;

class Keeper implements KeptPostgres {
  readonly #options: KeepOptions;
  readonly #clock: Clock;
  readonly #delay: RestartDelay;
  /** The last one that was started; it may have ended. */
  #server: EmbeddedPostgres | undefined;
  #outage: DatabaseOutage | undefined;
  /** It has ended, or ends for want of room, and has not said yet that it takes connections again. */
  #isDown = false;
  #toldFullDiskMs = Number.NEGATIVE_INFINITY;
  #cancelForget = () => {};
  #starting = new AbortController();
  #cancelWait = () => {};
  #restarting: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: KeepOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#delay = new RestartDelay(this.#clock);
  }

  get connection(): EmbeddedPostgres['connection'] {
    if (this.#server === undefined) throw new Error('PostgreSQL was never started.');
    return this.#server.connection;
  }

  outage(): DatabaseOutage | undefined {
    return this.#outage;
  }

  async start(mayCreate = true): Promise<void> {
    this.#starting = new AbortController();
    const server = await startEmbeddedPostgres({
      dataDirectory: this.#options.dataDirectory,
      settings: this.#options.settings ?? {},
      onLog: (line) => this.#read(line),
      mayCreate,
      signal: this.#starting.signal,
      clock: this.#clock,
    });
    this.#server = server;
    this.#delay.started();
    this.#runs();
    void server.whenDead.then((death) => {
      if (this.#stopped) return;
      this.#goneAway();
      this.#options.logger.error({ reason: death.reason }, 'the embedded PostgreSQL has ended; it is started again');
      this.#restarting = this.#restart();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#starting.abort();
    this.#cancelWait();
    this.#cancelForget();
    await this.#restarting;
    await this.#server?.stop();
  }

  async #restart(): Promise<void> {
    const sinceMs = this.#clock.monotonicMs();
    while (true) {
      await this.#wait(this.#delay.next());
      if (this.#stopped) return;
      try {
        await this.start(false);
        const awayMs = Math.round(this.#clock.monotonicMs() - sinceMs);
        this.#options.logger.warn({ away_ms: awayMs }, 'the embedded PostgreSQL runs again');
        return;
      } catch (error) {
        if (this.#stopped) return;
        // It may have run for a moment.
        this.#goneAway();
        const reason = error instanceof Error ? error.message : 'unknown';
        this.#options.logger.error({ reason }, 'the embedded PostgreSQL cannot be started; it is tried again');
      }
    }
  }

  #wait(delayMs: number): Promise<void> {
    if (delayMs === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(delayMs, resolve);
      this.#cancelWait = () => {
        cancel();
        resolve();
      };
    });
  }

  /** The server may also end all its sessions and recover by itself, of which only its log tells. */
  #read(line: string): void {
    this.#options.logger.debug({ line }, 'postgres');
    if (/No space left on device|Disk quota exceeded/.test(line)) this.#fullDisk(line);
    else if (line.endsWith('database system is ready to accept connections')) this.#runs();
  }

  /** A full disk that may be the reason is not forgotten before it runs again. */
  #goneAway(): void {
    this.#isDown = true;
    this.#setOutage(this.#outage ?? 'restarting');
  }

  #runs(): void {
    this.#isDown = false;
    this.#setOutage(undefined);
  }

  #fullDisk(line: string): void {
    this.#setOutage('storage_full');
    // A statement or a session that finds no room fails by itself, and the server goes on. Without its log it starts anew.
    if (/\bPANIC: /.test(line)) this.#isDown = true;
    if (!this.#isDown) {
      this.#cancelForget = this.#clock.after(FULL_DISK_MS, () => this.#setOutage(undefined));
    }
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#toldFullDiskMs < TELL_FULL_DISK_EVERY_MS) return;
    this.#toldFullDiskMs = nowMs;
    this.#options.logger.error({ reason: line }, 'the disk of the embedded PostgreSQL is full: make room on it');
  }

  #setOutage(outage: DatabaseOutage | undefined): void {
    this.#cancelForget();
    if (outage === this.#outage) return;
    this.#outage = outage;
    this.#options.onOutage?.(outage);
  }
}
