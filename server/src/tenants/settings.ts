import { changeRetention, RETENTION_DEFAULTS, readRetention } from './retention.ts';
import { DEFAULT_SETTINGS, type TenantSettings, type TenantSettingsChange } from './types.ts';

/** The settings in a stored value: what it does not hold, or holds in another form, has its default. */
export function readSettings(stored: unknown): TenantSettings {
  const value = typeof stored === 'object' && stored !== null ? (stored as Partial<TenantSettings>) : {};
  return {
    allow_unknown_event_types:
      typeof value.allow_unknown_event_types === 'boolean'
        ? value.allow_unknown_event_types
        : DEFAULT_SETTINGS.allow_unknown_event_types,
    retention: { ...RETENTION_DEFAULTS, ...readRetention(value.retention) },
  };
}

export function mergeSettings(current: TenantSettings, change: TenantSettingsChange | undefined): TenantSettings {
  if (change === null) return DEFAULT_SETTINGS;
  const allow = change?.allow_unknown_event_types;
  return {
    allow_unknown_event_types:
      allow === undefined ? current.allow_unknown_event_types : (allow ?? DEFAULT_SETTINGS.allow_unknown_event_types),
    retention: { ...RETENTION_DEFAULTS, ...changeRetention(current.retention, change?.retention) },
  };
}
