/**
 * Statements of every publish and every attempt, by name; a commit of keyed events has no name but its text. In a full
 * play each of them fails at least once.
 */
export const HOT = [
  'COMMIT',
  'insert-events',
  'claim-event-keys',
  'record-successes',
  'record-attempts',
  'record-attempts-again',
  'claim-due',
] as const;

/** Statements that may fail in a run. */
export const FAULTY = [
  ...HOT,
  'next-due',
  'waiting-lanes',
  'release-stranded',
  'parked-keys',
  'stranded-keys',
  'release-keys',
  'give-up-leases',
  'free-leases-of',
  'acquire-lanes',
  'release-lanes',
  'open-circuit',
  'take-probe',
  'return-probe',
  'close-circuit',
] as const;

export type FaultyStatement = (typeof FAULTY)[number];

/** Statements that never fail in a run, each with the reason. */
export const SPARED: Record<string, string> = {
  'read-circuits':
    'a node whose look at a circuit fails knows of it with the next notice; until then C1 does not hold there',
};
