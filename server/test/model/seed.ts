/** A seed that was not played before, very probably. */
export function newSeed(): number {
  return Math.trunc(Math.random() * 0x7fff_ffff);
}
