import { kindOf, type Metric } from './metrics.ts';

/** What of a rule decides, with the defaults where it says nothing. */
export interface Terms {
  /** At this value and above it is breached. */
  threshold: number;
  /** Below this value it is well again; between the two nothing changes. */
  resolveBelow: number;
  /** It has to be breached for so long before it fires. */
  forMs: number;
  /** It has to be well for so long before it is resolved. */
  clearMs: number;
  /** The same where nothing is known: no news is not yet good news. */
  silentMs: number;
  /** Attempts that a rate has to be of. */
  samplesMin: number;
}

/** What a rule says for itself. */
export interface RuleTerms {
  metric: Metric;
  threshold: number;
  resolveThreshold: number | null;
  periodSeconds: number;
  forSeconds: number | null;
  minimumSamples: number | null;
}

const CLEAR_MS_MAX = 300_000;
const SILENT_MS_MIN = 900_000;
const SAMPLES_MIN = 10;

/** A tenth below the threshold, so that a value that swings about it does not fire again and again. */
const HYSTERESIS = 0.9;

export function termsOf(rule: RuleTerms): Terms {
  const periodMs = rule.periodSeconds * 1_000;
  const kind = kindOf(rule.metric);
  const forMs = rule.forSeconds === null ? (kind === 'level' ? periodMs : 0) : rule.forSeconds * 1_000;
  return {
    threshold: rule.threshold,
    resolveBelow: rule.resolveThreshold ?? rule.threshold * HYSTERESIS,
    forMs,
    clearMs: Math.min(periodMs, CLEAR_MS_MAX),
    silentMs: Math.max(periodMs, SILENT_MS_MIN),
    samplesMin: kind === 'rate' ? (rule.minimumSamples ?? SAMPLES_MIN) : 0,
  };
}

/** What was measured of a subject. */
export interface Sample {
  /** null: there is none. */
  value: number | null;
  /** Attempts that it is of. */
  samples: number;
}

/** What is remembered of a subject that is, or was lately, beyond the threshold. */
export interface State {
  breachingSinceMs: number;
  clearSinceMs: number | null;
  /** It has fired. */
  incidentId: string | null;
}

/** What a look at a subject comes to. `state` undefined: nothing is to be remembered. */
export type Verdict =
  | { kind: 'well' }
  | { kind: 'pending'; state: State }
  | { kind: 'fire'; state: State; value: number }
  | { kind: 'firing'; state: State; value: number | null }
  | { kind: 'resolve'; value: number | null };

/**
 * Decides by what was measured and what is remembered.
 *
 * A subject fires once, when it has been at or above the threshold for `forMs` without a break, and is resolved when it
 * has been below `resolveBelow` for `clearMs`. A value in between keeps whatever is.
 */
export function judge(terms: Terms, before: State | undefined, sample: Sample, nowMs: number): Verdict {
  const value = sample.samples >= terms.samplesMin ? sample.value : null;
  const breached = value !== null && value >= terms.threshold;
  if (before === undefined || before.incidentId === null) {
    if (!breached) return { kind: 'well' };
    const state = before ?? { breachingSinceMs: nowMs, clearSinceMs: null, incidentId: null };
    return nowMs - state.breachingSinceMs >= terms.forMs ? { kind: 'fire', state, value } : { kind: 'pending', state };
  }
  const clear = value === null || value < terms.resolveBelow;
  if (breached || !clear) return { kind: 'firing', state: { ...before, clearSinceMs: null }, value };
  const clearSinceMs = before.clearSinceMs ?? nowMs;
  const neededMs = value === null ? terms.silentMs : terms.clearMs;
  if (nowMs - clearSinceMs >= neededMs) return { kind: 'resolve', value };
  return { kind: 'firing', state: { ...before, clearSinceMs }, value };
}

/**
 * What is remembered after a person has resolved an incident: if it goes on, it fires again after a period, neither at
 * once nor never.
 */
export function stateAfterResolving(terms: Terms, periodSeconds: number, nowMs: number): State {
  return { breachingSinceMs: nowMs + periodSeconds * 1_000 - terms.forMs, clearSinceMs: null, incidentId: null };
}
