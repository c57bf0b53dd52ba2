import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Structured logs, one JSON object a line. Code logs ids, counts and codes; payloads, header values and secrets are
 * never handed to it. The redaction below is a second line of defence for the names under which they travel.
 */
export function createLogger(level: LogLevel, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: {
      paths: [
        'authorization',
        'cookie',
        'headers',
        'password',
        'secret',
        'token',
        '*.authorization',
        '*.cookie',
        '*.headers',
        '*.password',
        '*.secret',
        '*.token',
        'metadata',
        'payload',
        'data',
        'body',
      ],
      censor: '[redacted]',
    },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
