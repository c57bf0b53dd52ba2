/**
 * Statements of every publish and every attempt, by name; a commit of keyed events has no name but its text. In a full
 * play each of them fails at least once.
 */
export const HOT = ['COMMIT', 'store-events', 'claim-event-keys', 'record-attempts', 'claim-due'] as const;

/** Statements that may fail in a run. */
export const FAULTY = [
  ...HOT,
  'next-due',
  'waiting-lanes',
  'release-stranded',
  'waiting-keys',
  'judge-parked-keys',
  'stranded-keys',
  'release-keys',
  'find-ended',
  'give-up-leases',
  'free-leases-of',
  'acquire-lanes',
  'release-lanes',
  'open-circuit',
  'take-probe',
  'return-probe',
  'close-circuit',
  'fold-tallies',
  'fold-filtered',
] as const;

/** Steps of pipelines, which fail as a whole, each with its pipeline; `…` stands for a table. */
export const STEPS: Record<string, FaultyStatement> = {
  'hold-node': 'store-events',
  'copy-…': 'store-events',
  'insert-ordered-deliveries': 'store-events',
  'count-filtered': 'store-events',
  'tell-held': 'store-events',
  'forget-attempts': 'record-attempts',
  'record-outcomes-…': 'record-attempts',
  'record-successes-…': 'record-attempts',
};

export type FaultyStatement = (typeof FAULTY)[number];

/** Statements that never fail in a run, each with the reason. */
export const SPARED: Record<string, string> = {
  'read-circuits':
    'a node whose look at a circuit fails knows of it with the next notice; until then C1 does not hold there',
  'count-waiting': 'it runs only where the queue has a bound, which refuses publishers and moves no row',
};
