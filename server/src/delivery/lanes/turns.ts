import TinyQueue from 'tinyqueue';
import type { Lane, TurnKind } from './lane.ts';
import { PriorityQueue } from './priority-queue.ts';

/** A turn that was given: a request of the lane may start. It ends with `Turns.end`. */
export interface Turn {
  lane: Lane;
  kind: TurnKind;
  /** Worker time that the tenant was charged in advance, in milliseconds. */
  chargedMs: number;
}

/**
 * Whose turn it is.
 *
 * - Tenants are served by worker time: the one whose requests have kept places busy for the shortest time is next. A
 *   tenant that was idle joins at the current mark, so idleness earns no credit.
 * - A tenant may hold no more places than are free. One whose receivers hang ends with half of them, two with a third
 *   each: whoever comes finds a place.
 * - Within a tenant the lane with the most urgent delivery is next, and among equals they take turns.
 * - First attempts and later ones have turns of their own: one in four is for later ones while both wait, and later ones
 *   hold no more places than are free, of all and of those that their tenant may have.
 */
export class Turns {
  readonly #tenants = new Map<string, Tenant>();
  readonly #rings: Record<TurnKind, TinyQueue<Entry>> = { fresh: newRing(), later: newRing() };
  /** Tenants that have all the places they may have; looked at when places become free. */
  readonly #full = new Set<Tenant>();
  #inFlightMax: number;
  #inFlight = 0;
  #laterInFlight = 0;
  #given = 0;
  #markMs = 0;
  #entries = 0;

  constructor(inFlightMax: number) {
    this.#inFlightMax = inFlightMax;
  }

  /** Places in all. When they become fewer, what is under way ends first. */
  set inFlightMax(inFlightMax: number) {
    this.#inFlightMax = inFlightMax;
  }

  get inFlightMax(): number {
    return this.#inFlightMax;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Puts a lane that wants a turn into the order, unless it stands there. */
  offer(lane: Lane): void {
    this.#offerKind(lane, 'fresh');
    this.#offerKind(lane, 'later');
  }

  /** The next turn, its place taken; undefined while nobody wants one or no place is free. */
  next(): Turn | undefined {
    while (this.#inFlight < this.#inFlightMax) {
      const kind = this.#nextKind();
      if (kind === undefined) return undefined;
      const tenant = this.#nextTenant(kind);
      if (tenant === undefined) continue;
      if (!this.#hasPlace(tenant, kind)) {
        this.#full.add(tenant);
        continue;
      }
      const lane = tenant.lanes[kind].shift();
      if (lane !== undefined) lane.inTurn[kind] = false;
      if (lane?.wants(kind)) {
        const turn = this.#give(tenant, lane, kind);
        this.#queue(tenant, kind);
        return turn;
      }
      this.#queue(tenant, kind);
      this.#forgetIdle(tenant);
    }
    return undefined;
  }

  /** Gives the place back. `tookMs`: how long the request kept it busy. */
  end({ lane, kind, chargedMs }: Turn, tookMs: number): void {
    const tenant = this.#tenant(lane.tenantId);
    this.#inFlight -= 1;
    if (kind === 'later') {
      this.#laterInFlight -= 1;
      tenant.laterInFlight -= 1;
    }
    tenant.inFlight -= 1;
    tenant.usedMs += tookMs - chargedMs;
    lane.ended(kind);
    // A copy: who still has no place for one kind goes back in.
    for (const full of [...this.#full]) {
      if (this.#hasPlace(full, 'fresh')) {
        this.#full.delete(full);
        this.#queue(full, 'fresh');
        this.#queue(full, 'later');
      }
    }
    this.#forgetIdle(tenant);
  }

  #offerKind(lane: Lane, kind: TurnKind): void {
    if (lane.inTurn[kind] || !lane.wants(kind)) return;
    lane.inTurn[kind] = true;
    const tenant = this.#tenant(lane.tenantId);
    tenant.lanes[kind].push(lane, lane.urgency(kind));
    this.#queue(tenant, kind);
  }

  #give(tenant: Tenant, lane: Lane, kind: TurnKind): Turn {
    const chargedMs = lane.expectedMs;
    this.#given += 1;
    this.#inFlight += 1;
    if (kind === 'later') {
      this.#laterInFlight += 1;
      tenant.laterInFlight += 1;
    }
    tenant.inFlight += 1;
    tenant.usedMs += chargedMs;
    lane.begun(kind);
    return { lane, kind, chargedMs };
  }

  #nextKind(): TurnKind | undefined {
    const { fresh, later } = this.#rings;
    const laterMay = later.length > 0 && this.#laterInFlight < Math.max(1, this.#inFlightMax - this.#inFlight);
    if (fresh.length === 0) return laterMay ? 'later' : undefined;
    return laterMay && this.#given % LATER_TURN === LATER_TURN - 1 ? 'later' : 'fresh';
  }

  /** Takes the tenant with the least worker time out of the ring. */
  #nextTenant(kind: TurnKind): Tenant | undefined {
    const entry = this.#rings[kind].pop();
    if (entry === undefined) return undefined;
    const { tenant } = entry;
    tenant.queued[kind] = false;
    if (entry.usedMs < tenant.usedMs) {
      // It has been charged since it was queued: back to its new place.
      this.#queue(tenant, kind);
      return undefined;
    }
    this.#markMs = Math.max(this.#markMs, tenant.usedMs);
    return tenant;
  }

  #queue(tenant: Tenant, kind: TurnKind): void {
    if (tenant.queued[kind] || tenant.lanes[kind].size === 0) return;
    if (!this.#hasPlace(tenant, kind)) {
      this.#full.add(tenant);
      return;
    }
    tenant.queued[kind] = true;
    this.#entries += 1;
    this.#rings[kind].push({ tenant, usedMs: tenant.usedMs, order: this.#entries });
  }

  #hasPlace(tenant: Tenant, kind: TurnKind): boolean {
    const placesMax = Math.max(1, this.#inFlightMax - this.#inFlight);
    if (tenant.inFlight >= placesMax) return false;
    return kind === 'fresh' || tenant.laterInFlight < Math.max(1, placesMax - tenant.inFlight);
  }

  #tenant(id: string): Tenant {
    let tenant = this.#tenants.get(id);
    if (tenant === undefined) {
      tenant = {
        id,
        lanes: { fresh: new PriorityQueue(), later: new PriorityQueue() },
        queued: { fresh: false, later: false },
        inFlight: 0,
        laterInFlight: 0,
        usedMs: this.#markMs,
      };
      this.#tenants.set(id, tenant);
    }
    return tenant;
  }

  #forgetIdle(tenant: Tenant): void {
    if (tenant.inFlight === 0 && tenant.lanes.fresh.size === 0 && tenant.lanes.later.size === 0) {
      this.#tenants.delete(tenant.id);
    }
  }
}

interface Tenant {
  id: string;
  lanes: Record<TurnKind, PriorityQueue<Lane>>;
  /** Stands in the ring. */
  queued: Record<TurnKind, boolean>;
  inFlight: number;
  laterInFlight: number;
  /** Worker time so far, on a scale that all tenants share. */
  usedMs: number;
}

interface Entry {
  tenant: Tenant;
  usedMs: number;
  /** Among equals the one that was queued first is next. */
  order: number;
}

/** Every so many turns one goes to what is late. */
const LATER_TURN = 4;

function newRing(): TinyQueue<Entry> {
  return new TinyQueue<Entry>([], (a, b) => a.usedMs - b.usedMs || a.order - b.order);
}
