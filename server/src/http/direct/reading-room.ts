/**
 * Bytes of bodies that may be under way on all connections together. Who is asking is only known when a request is whole,
 * so this is what strangers can make the process hold. What finds no room is for the HTTP server, which asks first.
 */
export class ReadingRoom {
  #free: number;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  /** False, and nothing taken, when there is no room for so many. */
  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#free += bytes;
  }
}
