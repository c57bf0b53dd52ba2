/** A start that cannot go on. The message is one line for the person at the terminal; the program prints it and exits with 1. */
export class StartupError extends Error {
  override name = 'StartupError';
}
