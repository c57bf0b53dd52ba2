import type { Clock } from '../../kernel/clock.ts';
import type { InHand } from '../lanes/in-hand.ts';
import type { Lane, LaneKey } from '../lanes/lane.ts';
import type { OrderKeeper } from '../lanes/order-keeper.ts';
import type { DeliveryRows } from '../rows.ts';
import type { DeliveryTask } from '../task.ts';
import type { UnderWay } from '../under-way.ts';
import type { LaneHandover } from './lane-handover.ts';
import type { LaneOwners } from './lane-owners.ts';

export interface NodeChangesOptions {
  rows: DeliveryRows;
  clock: Clock;
  inHand: InHand;
  underWay: UnderWay;
  owners: LaneOwners;
  handover: LaneHandover;
  order: OrderKeeper;
  letGo: (task: DeliveryTask) => void;
  /** Rows of the lane wait, perhaps for this node. */
  expect: (lane: Lane, dueAtMs: number) => void;
}

/** What it means for the lanes when this node or others live or die, and when its leases are in doubt. */
export class NodeChanges {
  readonly #options: NodeChangesOptions;

  constructor(options: NodeChangesOptions) {
    this.#options = options;
  }

  /** This node has a new number. */
  becomeNode(nodeId: number): void {
    const { rows, inHand, underWay, owners, letGo } = this.#options;
    // What was leased to the former node is free for everyone now, so nothing of it may be sent from memory.
    for (const task of inHand.drainQueues()) letGo(task);
    underWay.loseAll();
    rows.nodeId = nodeId;
    owners.becomeNode(nodeId);
    for (const lane of inHand.lanes.values()) lane.inDoubt = false;
  }

  /** The nodes that live, as of this heartbeat. */
  nodesAlive(nodeIds: number[]): void {
    const { clock, inHand, owners, handover, expect } = this.#options;
    const changed = owners.setAlive(nodeIds);
    handover.leave();
    if (!changed) return;
    const now = clock.now();
    for (const lane of inHand.lanes.values()) expect(lane, now);
  }

  /** Rows may be leased to this node that it does not hold, some of them in the order of these lanes. */
  doubt(ordered: LaneKey[]): void {
    for (const key of ordered) this.#options.inHand.lane(key).inDoubt = true;
  }

  /** Every lease is known again. */
  doubtOver(): void {
    const { inHand, order, handover } = this.#options;
    const lanes = [...inHand.lanes.values()].filter((lane) => lane.inDoubt);
    for (const lane of lanes) lane.inDoubt = false;
    // A claim whose answer was lost has parked rows, too.
    order.lookAt(lanes);
    handover.giveUp(lanes);
  }
}
