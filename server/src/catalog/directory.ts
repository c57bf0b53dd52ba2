import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError, type FieldProblem } from '../kernel/errors.ts';
import { LoadingCache } from '../kernel/loading-cache.ts';
import { CompiledSchemas } from './compiled-schemas.ts';
import { matchesEventPattern, parseEventPattern } from './event-pattern.ts';
import { didYouMean, nearNames } from './near-names.ts';
import { loadEventTypes } from './queries.ts';

/** An event type as publishing and test sends need it. */
export interface EventTypeEntry {
  readonly name: string;
  readonly deprecated: boolean;
  /** The sample's JSON text as it was given. */
  readonly sample: Buffer | undefined;
  /**
   * What is wrong with an event's data, at most 20 problems with paths relative to the data, whose own path is the
   * empty text. Undefined when the type does not enforce its schema.
   */
  readonly validate: ((data: unknown) => FieldProblem[]) | undefined;
}

type Now<Value> = Value | Promise<Value>;

/**
 * The event types of the environments in use, in memory: 2,000 environments, the one unused for longest makes room. It
 * answers at once what it knows and reads the rest from the database. Whoever is told of a change (`event_types`
 * notices) calls `invalidate`; a change may be missed for a minute at most.
 */
export interface EventTypeDirectory {
  /** On the way of every published event: a map lookup once the environment is known. */
  lookup(scope: Scope, name: string): Now<EventTypeEntry | 'unknown'>;
  /** The first type, by name, that one of the patterns matches; one that has a sample goes before one that has none. */
  firstMatching(scope: Scope, patterns: readonly string[]): Now<EventTypeEntry | undefined>;
  /** All names, in order. */
  names(scope: Scope): Now<ReadonlySet<string>>;
  /** Up to three names that `name` may be a slip of, the nearest first. */
  nearest(scope: Scope, name: string): Now<string[]>;
  /** The 422 for a type that is not there, with the near names; `path` is the field that named it. */
  unknownEventType(scope: Scope, name: string, path?: string): Now<AppError>;
  /** Without an environment: all of the tenant's. */
  invalidate(tenantId: string, environmentId?: string): void;
  invalidateAll(): void;
}

export function createEventTypeDirectory(options: {
  db: Database;
  clock: Clock;
  /** Environments kept at most (2,000). Each has at most 1 MB of schemas and samples, usually 10 to 50 KB. */
  maxEnvironments?: number;
}): EventTypeDirectory {
  const { db, clock, maxEnvironments = 2_000 } = options;
  const cache = new LoadingCache<EnvironmentTypes>({ clock, maxEntries: maxEnvironments });
  const schemas = new CompiledSchemas();

  const withTypes = <Result>(scope: Scope, use: (types: EnvironmentTypes['types']) => Result): Now<Result> => {
    const key = `${scope.tenantId}/${scope.environmentId}`;
    const known = cache.cached(key);
    if (known !== undefined) return use(known.types);
    return cache.load(key, () => load(db, scope, schemas)).then((loaded) => use(loaded?.types ?? new Map()));
  };

  return {
    lookup: (scope, name) => withTypes(scope, (types) => types.get(name) ?? 'unknown'),
    firstMatching: (scope, patterns) => withTypes(scope, (types) => findFirst(types, patterns)),
    names: (scope) => withTypes(scope, (types) => new Set(types.keys())),
    nearest: (scope, name) => withTypes(scope, (types) => nearNames(name, types.keys())),
    unknownEventType: (scope, name, path = 'event_type') =>
      withTypes(scope, (types) => unknownType(name, path, types.keys())),
    invalidate: (tenantId, environmentId) =>
      cache.invalidate(
        ({ scope }) =>
          scope.tenantId === tenantId && (environmentId === undefined || scope.environmentId === environmentId),
      ),
    invalidateAll: () => cache.invalidateAll(),
  };
}

interface EnvironmentTypes {
  scope: Scope;
  /** In the order of their names. */
  types: ReadonlyMap<string, EventTypeEntry>;
}

async function load(db: Database, scope: Scope, schemas: CompiledSchemas): Promise<EnvironmentTypes> {
  const rows = await loadEventTypes(db, scope);
  const { tenantId, environmentId } = scope;
  return {
    scope: { tenantId, environmentId },
    types: new Map(
      rows.map(({ name, deprecated, sample, enforced_schema: schema }) => [
        name,
        {
          name,
          deprecated,
          sample: sample === null ? undefined : Buffer.from(sample),
          // Made on first use: most types of an environment are seldom published.
          validate: schema === null ? undefined : (data) => schemas.check(schema)(data),
        },
      ]),
    ),
  };
}

function findFirst(types: EnvironmentTypes['types'], texts: readonly string[]): EventTypeEntry | undefined {
  const patterns = texts.map(parseEventPattern).filter((pattern) => pattern !== undefined);
  const matching = [...types.values()].filter(({ name }) =>
    patterns.some((pattern) => matchesEventPattern(pattern, name)),
  );
  return matching.find(({ sample }) => sample !== undefined) ?? matching[0];
}

function unknownType(name: string, path: string, known: Iterable<string>): AppError {
  const near = nearNames(name, known);
  const message = `is not an event type of this environment${didYouMean(name, near)}`;
  return new AppError({
    code: 'unknown_event_type',
    message: `${path}: ${message}`,
    details: { fields: [{ path, message }], near_matches: near },
  });
}
