import type { Lane } from './lane.ts';

interface TenantTurn {
  lanes: Lane[];
  inFlight: number;
  inTurn: boolean;
}

/**
 * Whose turn it is: tenants take turns, and within a tenant its lanes do. A tenant may hold at most half of the places,
 * so that one whose receivers hang leaves room for the others.
 */
export class Turns {
  readonly #tenants = new Map<string, TenantTurn>();
  readonly #order: TenantTurn[] = [];
  readonly #inFlightMax: number;
  readonly #tenantMax: number;
  #inFlight = 0;

  constructor(inFlightMax: number) {
    this.#inFlightMax = inFlightMax;
    this.#tenantMax = Math.max(1, Math.floor(inFlightMax / 2));
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Puts a lane that is ready into the order, unless it stands there. */
  offer(lane: Lane): void {
    if (lane.inTurn || !lane.ready) return;
    lane.inTurn = true;
    const tenant = this.#tenant(lane.tenantId);
    tenant.lanes.push(lane);
    this.#offerTenant(tenant);
  }

  /** The next lane that may start a request now; its place is taken until `release`. */
  next(): Lane | undefined {
    while (this.#inFlight < this.#inFlightMax) {
      const tenant = this.#order.shift();
      if (tenant === undefined) return undefined;
      tenant.inTurn = false;
      const lane = tenant.lanes.shift();
      if (lane === undefined) continue;
      lane.inTurn = false;
      if (lane.ready) {
        this.#inFlight += 1;
        tenant.inFlight += 1;
        lane.inFlight += 1;
        this.#offerTenant(tenant);
        return lane;
      }
      this.#offerTenant(tenant);
    }
    return undefined;
  }

  /** Gives a place back when its request has ended. */
  release(lane: Lane): void {
    const tenant = this.#tenant(lane.tenantId);
    this.#inFlight -= 1;
    tenant.inFlight -= 1;
    lane.inFlight -= 1;
    this.#offerTenant(tenant);
    if (tenant.inFlight === 0 && tenant.lanes.length === 0) this.#tenants.delete(lane.tenantId);
  }

  #offerTenant(tenant: TenantTurn): void {
    if (tenant.inTurn || tenant.lanes.length === 0 || tenant.inFlight >= this.#tenantMax) return;
    tenant.inTurn = true;
    this.#order.push(tenant);
  }

  #tenant(id: string): TenantTurn {
    let tenant = this.#tenants.get(id);
    if (tenant === undefined) {
      tenant = { lanes: [], inFlight: 0, inTurn: false };
      this.#tenants.set(id, tenant);
    }
    return tenant;
  }
}
