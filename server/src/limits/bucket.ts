/** What a bucket says to a wish. */
export interface Answer {
  granted: boolean;
  /** What is left, as far as this node knows. */
  remaining: number;
  /** Until all of it is there again. */
  resetMs: number;
  /** When it was not granted: until it can be. */
  retryMs: number;
}

/** Something of which so many may be taken in a time. */
export interface Bucket {
  /** Takes all of `count`, or nothing. A promise when the database has to be asked. */
  take(count: number): Answer | Promise<Answer>;
  /** What was taken and not used. Of a slice of a second it is lost: it cannot be used later. */
  giveBack(count: number): void;
  /** The limit was changed; what was taken stays taken. */
  setLimit(limit: number): void;
}
