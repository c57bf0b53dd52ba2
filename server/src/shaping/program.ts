import { createHash } from 'node:crypto';

/** A JSON value of a template. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** What makes the body of a request. */
export type BodySource =
  | {
      language: 'jinja';
      /** A text with Jinja in it, or a JSON value of whose texts each has some. */
      template: Json;
      /** A text of a JSON value that is one expression alone gives the value itself, of whatever type. */
      native: boolean;
      /** The body is JSON: what is put in cannot break it. */
      json: boolean;
    }
  | {
      language: 'javascript';
      /** An expression: a function of the event. */
      template: string;
      json: boolean;
    };

/** What a tenant wrote to shape requests with. It is run in the sandbox only. */
export interface Program {
  /** Says what it is: programs of one key do the same. */
  readonly key: string;
  /** null: the webhook's envelope. */
  readonly body: BodySource | null;
  /** Names, and the Jinja texts of their values. */
  readonly headers: readonly (readonly [name: string, template: string])[];
}

export function createProgram(body: BodySource | null, headers: Program['headers']): Program {
  const key = createHash('sha256')
    .update(JSON.stringify([body, headers]))
    .digest('base64');
  return { key, body, headers };
}

/** The event as a program sees it, as texts: the sandbox is another thread. */
export interface ProgramInput {
  eventType: string;
  /** The publisher's, else the TypeID. */
  eventId: string;
  /** RFC 3339. */
  timestamp: string;
  /** JSON text. */
  data: string;
  /** JSON text of an object, or null. */
  metadata: string | null;
  /** The attempt's number, from 1. */
  attempt: number;
}

/** What a program made of an event. */
export interface Shaped {
  /** null: it makes none, and the webhook's envelope does. */
  body: string | null;
  /** Name and value in turn. */
  headers: string[];
  /** Another URL than the webhook's. */
  url?: string;
  /** It wants nothing to be sent. */
  cancel?: true;
}

/**
 * What is wrong with a program, or with what it made of an event.
 *
 * - `syntax`: it cannot be read
 * - `failed`: it stopped with an error
 * - `limit`: it took too long, too much memory, or made too much
 * - `output`: what it made cannot be sent
 * - `unavailable`: no fault of its own; the sandbox does not work
 */
export interface ProgramFault {
  kind: 'syntax' | 'failed' | 'limit' | 'output' | 'unavailable';
  /** A sentence without anything of the event. */
  message: string;
  /** More of it, which may quote the event. */
  detail?: string;
  /** Which part of the program: `template.lead.id`, `headers.X-Kind`. */
  path?: string;
  /** From 1. */
  line?: number;
  column?: number;
}

export type RunResult = { ok: true; shaped: Shaped } | { ok: false; fault: ProgramFault };

/** Bytes of a body that a program makes. */
export const SHAPED_BYTES_MAX = 1_048_576;

/** Thrown in the sandbox; what is told of it is the fault. */
export class ProgramError extends Error {
  readonly fault: ProgramFault;

  constructor(fault: ProgramFault) {
    super(fault.message);
    this.fault = fault;
  }
}

/** "The template failed at line 2, column 5: undefined value." */
export function faultText({ message, path, line, column }: ProgramFault): string {
  const place = [
    path,
    line === undefined ? undefined : `line ${line}${column === undefined ? '' : `, column ${column}`}`,
  ].filter((part) => part !== undefined);
  return place.length === 0 ? message : `${message.replace(/\.$/, '')} (${place.join(', ')}).`;
}
