import type { Tables } from '../db/tables.ts';

export type DeliveryStatus = Tables['deliveries']['status'];

/**
 * Where a delivery's row is, which `due_at`, `lease_node` and `status` say together (SPEC.md, "The lease axis").
 *
 * - `in_hand`: a node holds it in memory; `lease_node` is that node
 * - `waiting`: until `due_at`
 * - `parked`: until its predecessor has ended; `due_at` is infinity
 * - `held`: until its webhook is active; `due_at` is infinity
 * - `ended`
 */
export type Place = 'in_hand' | 'waiting' | 'parked' | 'held' | 'ended';

/**
 * Everything that moves a delivery's row, with the places it moves rows from and the place they have afterwards.
 *
 * - `claim`: a node leases a row that is due; `park`: its predecessor still waits, so it is not leased, or not kept
 * - `succeed`, `fail`, `bury`: an attempt was recorded, with a retry to come or none
 * - `hold`: its webhook is not active; `release`: it is again; `unpark`: the predecessor has ended
 * - `give_back`: the node lets go of it unsent; `free`: the node is gone, or does not know of its lease
 * - `discard`: its webhook was deleted or its payload erased
 * - `cancel`, `retry`, `replay`: a person's wish
 */
export const COMMANDS = {
  claim: { from: ['waiting'], to: 'in_hand' },
  park: { from: ['waiting', 'in_hand'], to: 'parked' },
  succeed: { from: ['in_hand'], to: 'ended' },
  fail: { from: ['in_hand'], to: 'waiting' },
  bury: { from: ['in_hand'], to: 'ended' },
  hold: { from: ['in_hand'], to: 'held' },
  release: { from: ['held'], to: 'waiting' },
  unpark: { from: ['parked'], to: 'waiting' },
  give_back: { from: ['in_hand'], to: 'waiting' },
  free: { from: ['in_hand'], to: 'waiting' },
  discard: { from: ['in_hand', 'waiting', 'parked', 'held'], to: 'ended' },
  cancel: { from: ['in_hand', 'waiting', 'parked', 'held'], to: 'ended' },
  retry: { from: ['waiting', 'parked', 'ended'], to: 'waiting' },
  replay: { from: ['ended'], to: 'waiting' },
} as const satisfies Record<string, { from: readonly Place[]; to: Place }>;

export type Command = keyof typeof COMMANDS;

/** `unfinished`: `pending` when no attempt was made yet, `failed` otherwise. */
export type NextStatus = DeliveryStatus | 'unfinished' | 'refused';

/** What each command makes of each status. The statements keep to it: transitions.test.ts drives every cell through them. */
export const TRANSITIONS = {
  pending: {
    claim: 'pending',
    park: 'pending',
    succeed: 'delivered',
    fail: 'failed',
    bury: 'dead',
    hold: 'held',
    release: 'refused',
    unpark: 'pending',
    give_back: 'pending',
    free: 'pending',
    discard: 'discarded',
    cancel: 'cancelled',
    retry: 'unfinished',
    replay: 'refused',
  },
  failed: {
    claim: 'failed',
    park: 'failed',
    succeed: 'delivered',
    fail: 'failed',
    bury: 'dead',
    hold: 'held',
    release: 'refused',
    unpark: 'failed',
    give_back: 'failed',
    free: 'failed',
    discard: 'discarded',
    cancel: 'cancelled',
    retry: 'unfinished',
    replay: 'refused',
  },
  held: {
    claim: 'refused',
    park: 'refused',
    succeed: 'refused',
    fail: 'refused',
    bury: 'refused',
    hold: 'refused',
    release: 'unfinished',
    unpark: 'refused',
    give_back: 'refused',
    free: 'refused',
    discard: 'discarded',
    cancel: 'cancelled',
    retry: 'refused',
    replay: 'refused',
  },
  dead: { ...refusingAll(), retry: 'unfinished', replay: 'unfinished' },
  cancelled: { ...refusingAll(), retry: 'unfinished', replay: 'unfinished' },
  delivered: refusingAll(),
  discarded: refusingAll(),
} as const satisfies Record<DeliveryStatus, Record<Command, NextStatus>>;

/** The statuses from which a command moves a delivery, for the conditions of statements. */
export function statusesAllowing(command: Command): DeliveryStatus[] {
  return STATUSES.filter((status) => TRANSITIONS[status][command] !== 'refused');
}

const STATUSES = Object.keys(TRANSITIONS) as DeliveryStatus[];

/** An end is only left by a person's wish. */
function refusingAll() {
  return {
    claim: 'refused',
    park: 'refused',
    succeed: 'refused',
    fail: 'refused',
    bury: 'refused',
    hold: 'refused',
    release: 'refused',
    unpark: 'refused',
    give_back: 'refused',
    free: 'refused',
    discard: 'refused',
    cancel: 'refused',
    retry: 'refused',
    replay: 'refused',
  } as const satisfies Record<Command, NextStatus>;
}
