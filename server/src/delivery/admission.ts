import type { Clock } from '../kernel/clock.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { Route } from './attempts.ts';
import type { Circuits } from './circuits/circuits.ts';
import type { ClaimRoom, InHand } from './lanes/in-hand.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import { paceIntervalMs } from './lanes/pace.ts';
import type { LaneOwners, WantedLane } from './nodes/lane-owners.ts';
import type { DeliveryTask } from './task.ts';

/** What is to be done about a lane with due rows. */
export type Admission =
  /** `againAtMs`: look again then, in milliseconds since the epoch, even if nothing is due. */
  | { lane: Lane; kind: 'claim'; room: ClaimRoom; ordered: boolean; againAtMs?: number }
  /** Memory is full: when something of the lane has gone, or after a while. */
  | { lane: Lane; kind: 'full' }
  /** Not before this time, in milliseconds since the epoch. */
  | { lane: Lane; kind: 'wait'; untilMs: number }
  /** Another node sends to it. */
  | { lane: Lane; kind: 'elsewhere' }
  /** Its circuit is open, and nothing is due with which to try it. */
  | { lane: Lane; kind: 'idle' };

export interface LaneAdmissionOptions {
  clock: Clock;
  directory: WebhookDirectory;
  circuits: Circuits;
  owners: LaneOwners;
  inHand: InHand;
  /** This node has taken lanes: what earlier owners left parked is to be looked at. */
  onTaken: (lanes: Lane[]) => void;
}

/** Another node is about to give the lane up, or leases of it are looked for: ask again soon. */
const AGAIN_MS = 500;

/** A lane with a rate limit gets no more into memory than it sends in so many seconds. */
const PACED_SECONDS = 5;

/** After a timeout, another node is given this long to say what came of its probe. */
const PROBE_GRACE_MS = 10_000;

const USUAL: Route = { kind: 'usual' };

/** Decides what may be sent to a webhook by this node now: its circuit, its owner, its pace and the room in memory. */
export class LaneAdmission {
  readonly #options: LaneAdmissionOptions;

  constructor(options: LaneAdmissionOptions) {
    this.#options = options;
  }

  /** May a delivery that was just published go straight into memory, leased to this node? */
  admitsFresh(lane: Lane, target: WebhookTarget): boolean {
    // The order of a key is that of the rows, whichever node they came through.
    if (target.ordering !== null || lane.leaving) return false;
    if (target.bound && !this.#options.owners.owns(target.id)) return false;
    return this.circuitLets(target) && this.#options.inHand.hasRoom(lane);
  }

  /** The circuit is closed, or there is another URL to send to. */
  circuitLets(target: WebhookTarget): boolean {
    return (
      target.circuitBreaker === null ||
      target.failoverUrl !== null ||
      this.#options.circuits.find(target.id) === undefined
    );
  }

  /** Where an attempt goes; undefined: nowhere now, by this node. */
  route(lane: Lane, { trigger }: DeliveryTask, target: WebhookTarget): Route | undefined {
    const { circuits, owners } = this.#options;
    if (target.bound && (lane.leaving || !owners.owns(target.id))) return undefined;
    const { circuitBreaker, failoverUrl } = target;
    const open = circuitBreaker !== null && circuits.find(target.id) !== undefined;
    // What goes to the failover URL because its attempts are used up tries nothing.
    if (open && lane.probing && (failoverUrl === null || trigger !== 'failover')) {
      lane.probing = false;
      return { kind: 'probe', againMs: circuitBreaker.openMs };
    }
    if (failoverUrl !== null && (open || trigger === 'failover')) return { kind: 'failover', url: failoverUrl };
    return open ? undefined : USUAL;
  }

  /** What to claim of lanes whose rows are due. */
  async admit(lanes: Lane[]): Promise<Admission[]> {
    const { directory } = this.#options;
    const known: { lane: Lane; target: WebhookTarget | undefined }[] = [];
    for (const lane of lanes) {
      const found = directory.find(lane, lane.webhookId);
      known.push({ lane, target: found instanceof Promise ? await found : found });
    }
    await this.#takeLanes(known);
    const admissions: Admission[] = [];
    // A lane that was given up meanwhile is made anew.
    for (const { lane, target } of known)
      admissions.push(await this.#admitOne(this.#options.inHand.lane(lane), target));
    return admissions;
  }

  async #admitOne(lane: Lane, target: WebhookTarget | undefined): Promise<Admission> {
    const { clock, inHand, owners } = this.#options;
    const room = inHand.roomToClaim(lane);
    if (room.rows < 1) return { lane, kind: 'full' };
    // Whatever waits for a webhook that is gone or not active is discarded or held, and for that it must be claimed.
    if (target === undefined) return { lane, kind: 'claim', room, ordered: false };
    if (target.bound && (lane.leaving || !owners.owns(lane.webhookId))) {
      return owners.shouldOwn(lane.webhookId)
        ? { lane, kind: 'wait', untilMs: clock.now() + AGAIN_MS }
        : { lane, kind: 'elsewhere' };
    }
    if (lane.inDoubt) return { lane, kind: 'wait', untilMs: clock.now() + AGAIN_MS };
    // It may be active again by the time that the claim has brought them.
    if (target.status !== 'active') return { lane, kind: 'claim', room, ordered: target.ordering !== null };
    lane.configure(target);
    const perRequest = target.batching?.maxEvents ?? 1;
    const paced =
      lane.pace === undefined
        ? room.rows
        : Math.ceil((lane.pace.perMinute * perRequest * PACED_SECONDS) / 60) - lane.queued;
    if (paced < 1) return { lane, kind: 'full' };
    return this.#throughCircuit(lane, target, { ...room, rows: Math.min(room.rows, paced) });
  }

  async #throughCircuit(key: LaneKey, target: WebhookTarget, room: ClaimRoom): Promise<Admission> {
    const { clock, circuits, inHand } = this.#options;
    const { circuitBreaker } = target;
    const ordered = target.ordering !== null;
    const hasFailover = target.failoverUrl !== null;
    const before = circuitBreaker === null ? undefined : circuits.find(key.webhookId);
    const isTime = before !== undefined && before.reopensAtMs <= clock.monotonicMs();
    const silenceMs = Math.max(circuitBreaker?.openMs ?? 0, target.timeoutMs + PROBE_GRACE_MS);
    const mayProbe = isTime && (await circuits.takeProbe(key, silenceMs, hasFailover));
    // What there was before the question may be gone: a lane that had nothing in hand, or the circuit.
    const lane = inHand.lane(key);
    const circuit = circuitBreaker === null ? undefined : circuits.find(key.webhookId);
    if (circuit === undefined) return { lane, kind: 'claim', room, ordered };
    if (mayProbe) lane.probing = true;
    const waitMs = circuit.reopensAtMs - clock.monotonicMs();
    const againAtMs = clock.now() + Math.max(1, waitMs);
    // The primary is to be tried when its time has come, also while everything goes to the other URL.
    if (hasFailover) return { lane, kind: 'claim', room, ordered, againAtMs };
    if (lane.probing) return { lane, kind: 'claim', room: { ...room, rows: 1 }, ordered };
    return isTime && waitMs <= 0 ? { lane, kind: 'idle' } : { lane, kind: 'wait', untilMs: againAtMs };
  }

  /** Takes the lanes that this node should have and has not. */
  async #takeLanes(known: { lane: Lane; target: WebhookTarget | undefined }[]): Promise<void> {
    const { owners } = this.#options;
    const wanted: (WantedLane & { lane: Lane; target: WebhookTarget })[] = [];
    for (const { lane, target } of known) {
      if (target?.bound !== true || owners.owns(lane.webhookId) || !owners.shouldOwn(lane.webhookId)) continue;
      const perMinute = target.rateLimitPerMinute;
      wanted.push({ lane, target, paceIntervalMs: perMinute === null ? 0 : paceIntervalMs(perMinute) });
    }
    const taken = new Map((await owners.acquire(wanted)).map((owned) => [owned.lane.webhookId, owned]));
    if (taken.size === 0) return;
    const lanes: Lane[] = [];
    for (const { lane: key, target } of wanted) {
      const owned = taken.get(key.webhookId);
      if (owned === undefined) continue;
      const lane = this.#options.inHand.lane(key);
      lane.takeOver(target, owned.notBeforeMs);
      lanes.push(lane);
    }
    this.#options.onTaken(lanes);
  }
}
