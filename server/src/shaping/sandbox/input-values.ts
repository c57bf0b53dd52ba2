import type { ProgramInput } from '../program.ts';
import type { ValuePath } from './compile-jinja.ts';

/** An event's values, read when they are first asked for. */
export class InputValues {
  readonly #input: ProgramInput;
  #exact: Readonly<Record<string, unknown>> | undefined;
  #engine: Readonly<Record<string, unknown>> | undefined;

  constructor(input: ProgramInput) {
    this.#input = input;
  }

  /** The JSON of the value at a path, with its numbers as they were published; undefined: there is none. */
  jsonAt(path: ValuePath): string | undefined {
    this.#exact ??= this.#read(exactNumber);
    let value: unknown = this.#exact;
    for (const name of path) {
      if (typeof value !== 'object' || value === null || isRawJson(value)) return undefined;
      const isMember = Array.isArray(value) ? /^\d+$/.test(name) : Object.hasOwn(value, name);
      if (!isMember) return undefined;
      value = (value as Record<string, unknown>)[name];
    }
    return JSON.stringify(value);
  }

  /** For the engine: integers of 64 bits as they are, other numbers as a double. */
  get forEngine(): Readonly<Record<string, unknown>> {
    this.#engine ??= this.#read(engineNumber);
    return this.#engine;
  }

  #read(odd: Reviver): Readonly<Record<string, unknown>> {
    const { eventType, eventId, timestamp, data, metadata, attempt } = this.#input;
    return {
      event_type: eventType,
      event_id: eventId,
      timestamp,
      data: parse(data, odd),
      metadata: metadata === null ? {} : parse(metadata, odd),
      attempt,
    };
  }
}

type Reviver = (source: string, value: number) => unknown;

/** Numbers that a double may not hold as they are spelled. Everything else is read four times as fast. */
const ODD_NUMBERS = /[\d.]{16}|\d\.\d*0(?!\d)|\d[eE]|-0|\.0{6}/;

function parse(json: string, odd: Reviver): unknown {
  if (!ODD_NUMBERS.test(json)) return JSON.parse(json);
  return JSON.parse(json, (_name, value, context?: { source?: string }) =>
    typeof value === 'number' && context?.source !== undefined ? odd(context.source, value) : value,
  );
}

function exactNumber(source: string, value: number): unknown {
  return String(value) === source ? value : rawJson(source);
}

/** Stage 4 of ECMAScript, "JSON.parse source text access"; the type library does not have it yet. */
const { rawJSON: rawJson, isRawJSON: isRawJson } = JSON as unknown as {
  rawJSON: (source: string) => unknown;
  isRawJSON: (value: object) => boolean;
};

function engineNumber(source: string, value: number): unknown {
  if (!/^-?\d+$/.test(source) || Number.isSafeInteger(value)) return value;
  const integer = BigInt(source);
  return integer >= -(2n ** 63n) && integer < 2n ** 64n ? integer : value;
}
