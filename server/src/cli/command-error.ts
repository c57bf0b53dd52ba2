/**
 * A command that cannot do what it was asked. The message is for the person at the terminal: it says what is wrong and
 * what to do about it. The program prints it and exits with 1.
 */
export class CommandError extends Error {
  override name = 'CommandError';
}
