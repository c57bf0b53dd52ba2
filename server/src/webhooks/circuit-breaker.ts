import { type Static, Type } from 'typebox';
import { changeable } from './nullable.ts';

/** When a webhook that fails is left alone for a while. */
export interface CircuitBreaker {
  /** Share of failed requests (above 0, up to 1) from which the circuit opens. */
  readonly failureRate: number;
  /** Requests within the window before the share says anything. */
  readonly minimumRequests: number;
  readonly windowMs: number;
  /** How long nothing is sent once it has opened. */
  readonly openMs: number;
}

const fields = {
  enabled: Type.Boolean({
    description:
      'Default true: when too many requests fail, deliveries wait without being sent or counted as attempts, until a ' +
      'single one has tried whether the webhook answers again.',
  }),
  failure_rate: Type.Number({
    exclusiveMinimum: 0,
    maximum: 1,
    description: 'Share of failed requests within the window from which the circuit opens. Default 0.5.',
  }),
  minimum_requests: Type.Integer({
    minimum: 1,
    maximum: 10_000,
    description: 'Requests within the window before it may open. Default 20.',
  }),
  window_seconds: Type.Integer({ minimum: 5, maximum: 3_600, description: 'Default 60.' }),
  open_seconds: Type.Integer({
    minimum: 1,
    maximum: 3_600,
    description: 'How long it stays open before a delivery tries again. Default 30.',
  }),
};

/** `circuit_breaker` in a request: absent leaves a field as it is, null gives its default back. */
export const CircuitBreakerInput = Type.Object(changeable(fields), { additionalProperties: false });

/** `circuit_breaker` in an answer: what is in force. */
export const CircuitBreakerShown = Type.Object(fields);
type Shown = Static<typeof CircuitBreakerShown>;

/** What a webhook says for itself; as stored in `webhooks.circuit_breaker`. */
export type CircuitBreakerFields = { readonly [K in keyof Shown]?: Shown[K] };

const DEFAULTS: Shown = {
  enabled: true,
  failure_rate: 0.5,
  minimum_requests: 20,
  window_seconds: 60,
  open_seconds: 30,
};

/** The breaker in force; null: the circuit never opens. */
export function resolveCircuitBreaker(own: CircuitBreakerFields): CircuitBreaker | null {
  const shown = showCircuitBreaker(own);
  if (!shown.enabled) return null;
  return {
    failureRate: shown.failure_rate,
    minimumRequests: shown.minimum_requests,
    windowMs: shown.window_seconds * 1000,
    openMs: shown.open_seconds * 1000,
  };
}

/** The breaker as the API shows it. */
export function showCircuitBreaker(own: CircuitBreakerFields): Shown {
  return { ...DEFAULTS, ...own };
}
