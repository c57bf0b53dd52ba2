import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import { parsePath } from '../masking/path.ts';
import { DEFAULT_RULES, DETECTORS, type MaskingRules } from '../masking/rules.ts';
import { changeRetention, RETENTION_DEFAULTS, readRetention } from './retention.ts';
import { DEFAULT_SETTINGS, type MaskingChange, type TenantSettings, type TenantSettingsChange } from './types.ts';

/** The settings in a stored value: what it does not hold, or holds in another form, has its default. */
export function readSettings(stored: unknown): TenantSettings {
  const value = typeof stored === 'object' && stored !== null ? (stored as Partial<TenantSettings>) : {};
  return {
    masking: readMasking(value.masking),
    allow_unknown_event_types:
      typeof value.allow_unknown_event_types === 'boolean'
        ? value.allow_unknown_event_types
        : DEFAULT_SETTINGS.allow_unknown_event_types,
    retention: { ...RETENTION_DEFAULTS, ...readRetention(value.retention) },
  };
}

/** @throws AppError 422 for a path that cannot be read. */
export function mergeSettings(current: TenantSettings, change: TenantSettingsChange | undefined): TenantSettings {
  if (change === null) return DEFAULT_SETTINGS;
  const allow = change?.allow_unknown_event_types;
  return {
    masking: mergeMasking(current.masking, change?.masking),
    allow_unknown_event_types:
      allow === undefined ? current.allow_unknown_event_types : (allow ?? DEFAULT_SETTINGS.allow_unknown_event_types),
    retention: { ...RETENTION_DEFAULTS, ...changeRetention(current.retention, change?.retention) },
  };
}

function readMasking(stored: unknown): MaskingRules {
  const value = typeof stored === 'object' && stored !== null ? (stored as Record<string, unknown>) : {};
  const texts = (list: unknown) => (Array.isArray(list) ? list.filter((each) => typeof each === 'string') : []);
  return {
    paths: texts(value.paths),
    detectors: DETECTORS.filter((name) => texts(value.detectors).includes(name)),
    names: texts(value.names),
    except_names: texts(value.except_names),
  };
}

function mergeMasking(current: MaskingRules, change: MaskingChange | null | undefined): MaskingRules {
  if (change === null) return DEFAULT_RULES;
  const given = Object.fromEntries(
    Object.entries(change ?? {}).map(([name, list]) => [name, list ?? DEFAULT_RULES[name as keyof MaskingRules]]),
  );
  const problems = (change?.paths ?? []).flatMap((path, at): FieldProblem[] => {
    const parsed = parsePath(path);
    return parsed.ok ? [] : [{ path: `settings.masking.paths.${at}`, message: parsed.problem }];
  });
  for (const [name, list] of Object.entries(given)) {
    // PostgreSQL's jsonb takes neither, and JSON.stringify writes both as escapes.
    const at = list.findIndex((text) => text.includes('\0') || !text.isWellFormed());
    const message = 'must have no NUL characters and no halves of surrogate pairs';
    if (at !== -1) problems.push({ path: `settings.masking.${name}.${at}`, message });
  }
  if (problems.length > 0) throw invalidFields(problems);
  return { ...current, ...given };
}
