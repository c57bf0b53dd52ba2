import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import { firstIdAt } from '../../kernel/ids.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { DeliveryRows } from '../rows.ts';
import { COMMIT_MS_MAX, NODE_SILENCE_MS_MAX, type NodeRegistry } from './node-registry.ts';

export interface HeartbeatOptions {
  rows: DeliveryRows;
  registry: NodeRegistry;
  clock: Clock;
  logger: Logger;
  soleNode: boolean;
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  oldestInHand: () => string | undefined;
  idsInHand: () => string[];
  /** This process has a new number; leases of a former one are lost. */
  onNode: (nodeId: number) => void;
  /** The nodes that live, this one included. */
  onNodes: (nodeIds: number[]) => void;
  /** Rows were freed and wait now. */
  onFreed: () => void;
  /** Every lease of this node is known again. */
  onDoubtOver: () => void;
  /** The node answers for its leases again. */
  onAlive: () => void;
}

const BEAT_MS = 2_000;

/** After so long without a heartbeat a node sends nothing: well before others may take its leases. */
const SELF_SILENCE_MS_MAX = NODE_SILENCE_MS_MAX - BEAT_MS;

/** After so long without a heartbeat this node was cut off from the database, and so may the others have been. */
const CUT_OFF_MS = 2 * BEAT_MS;

/** Longer than any statement may run: whatever was in doubt has been committed or undone by then. */
const DOUBT_MS = 20_000;

/** Tells the other nodes that this one lives, and takes over from those that do not. */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #nodeId = 0;
  #lastBeatMs = Number.NEGATIVE_INFINITY;
  /** Before that the silence of others says nothing: they were cut off as this node was, and have not beaten again yet. */
  #judgesFromMs = Number.NEGATIVE_INFINITY;
  #doubtSinceMs: number | undefined;
  /** The numbers it had before others took it for dead, until nothing can be leased to them any more. */
  #formerNodes: { nodeId: number; untilMs: number }[] = [];
  #beating: Promise<void> = Promise.resolve();
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** The node may send: nobody has taken its leases. */
  get alive(): boolean {
    return this.#options.clock.monotonicMs() - this.#lastBeatMs < SELF_SILENCE_MS_MAX;
  }

  async start(): Promise<void> {
    await this.#join();
    await this.#takeOver(this.#options.soleNode);
    this.#beatLater();
  }

  /**
   * Leaves. With something in hand still, or perhaps by a commit in doubt, it does not sign off: then the silent node is
   * found, and its leases are freed, by others.
   */
  async stop(leavesNothing: boolean): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await this.#beating;
    if (!leavesNothing || this.#doubtSinceMs !== undefined) return;
    await this.#options.registry.remove(this.#nodeId).catch((error) => {
      this.#options.logger.warn({ code: errorCode(error) }, 'the node could not be signed off');
    });
  }

  /** A statement ended in doubt: rows may be leased to this node that it does not hold. They are looked for once the doubt is over. */
  searchLostLeases(): void {
    this.#doubtSinceMs = this.#options.clock.now();
  }

  async #join(): Promise<void> {
    const { registry, clock, onNode } = this.#options;
    const nodeId = await registry.join();
    if (this.#nodeId !== 0) this.#formerNodes.push({ nodeId: this.#nodeId, untilMs: clock.now() });
    this.#nodeId = nodeId;
    this.#lastBeatMs = clock.monotonicMs();
    onNode(this.#nodeId);
  }

  #beatLater(): void {
    this.#cancel = this.#options.clock.after(BEAT_MS, () => {
      this.#beating = this.#beat()
        .catch((error) => {
          this.#options.logger.warn({ code: errorCode(error) }, 'the heartbeat failed');
        })
        .then(() => {
          if (!this.#stopped) this.#beatLater();
        });
    });
  }

  async #beat(): Promise<void> {
    const { registry, clock, exclusively, oldestInHand, onAlive } = this.#options;
    const startMs = clock.monotonicMs();
    const oldest = await exclusively(() =>
      registry.beat(this.#nodeId, oldestInHand(), this.#doubtSinceMs !== undefined),
    );
    if (startMs - this.#lastBeatMs > CUT_OFF_MS) this.#judgesFromMs = clock.monotonicMs() + NODE_SILENCE_MS_MAX;
    // It may have lapsed before this beat, or while the beat took its time: either way it has begun nothing since.
    const lapsed = !this.alive;
    if (oldest !== undefined) this.#lastBeatMs = startMs;
    else await this.#join();
    if (lapsed) onAlive();
    await this.#takeOver(false);
    if (oldest !== undefined) await this.#findLost(oldest);
    await this.#freeFormer();
  }

  async #takeOver(sole: boolean): Promise<void> {
    const { registry, rows, clock, logger, onFreed, onNodes } = this.#options;
    const others = await registry.findOthers(this.#nodeId, sole);
    if (clock.monotonicMs() < this.#judgesFromMs) {
      onNodes([this.#nodeId, ...others.alive, ...others.dead]);
      return;
    }
    for (const dead of others.dead) {
      const freed = await registry.bury(dead, sole, (oldestId, client) =>
        rows.freeLeasesOf(dead, oldestId, clock.now(), undefined, client),
      );
      logger.info({ node: dead, deliveries: freed }, 'took over from a node that is gone');
      if (freed > 0) onFreed();
    }
    onNodes([this.#nodeId, ...others.alive]);
  }

  /** `oldest`: this node has no older leases. */
  async #findLost(oldest: string): Promise<void> {
    const { rows, clock, logger, exclusively, idsInHand, onFreed, onDoubtOver } = this.#options;
    const since = this.#doubtSinceMs;
    const now = clock.now();
    if (since === undefined || now - since < DOUBT_MS) return;
    // What is younger may be in a commit of this moment.
    const before = firstIdAt(now - DOUBT_MS / 2);
    const freed = await exclusively(() =>
      rows.freeLeasesOf(this.#nodeId, oldest, now, { before, except: idsInHand() }),
    );
    if (this.#doubtSinceMs === since) {
      this.#doubtSinceMs = undefined;
      onDoubtOver();
    }
    logger.info({ deliveries: freed }, 'looked for deliveries whose commit was in doubt');
    if (freed > 0) onFreed();
  }

  /** A commit that was under way when others took this node for dead has leased to a number that is nobody's. */
  async #freeFormer(): Promise<void> {
    const { rows, clock, logger, onFreed } = this.#options;
    const now = clock.now();
    for (const former of this.#formerNodes.filter(({ untilMs }) => now - untilMs >= DOUBT_MS)) {
      const from = firstIdAt(former.untilMs - COMMIT_MS_MAX);
      const freed = await rows.freeLeasesOf(former.nodeId, from, now);
      this.#formerNodes = this.#formerNodes.filter((each) => each !== former);
      logger.info({ node: former.nodeId, deliveries: freed }, 'looked for deliveries of a former node');
      if (freed > 0) onFreed();
    }
  }
}
