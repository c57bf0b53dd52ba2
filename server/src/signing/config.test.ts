import { Ajv } from 'ajv';
import { expect, test } from 'vitest';
import { DEFAULT_SIGNATURE, SignatureSettingsSchema, signatureSettingsProblem } from './config.ts';

const isValid = new Ajv({ useDefaults: true }).compile(SignatureSettingsSchema);

test('settings may say any part, and validation fills in nothing that was not said', () => {
  const settings = { method: 'hmac_sha1' };
  expect(isValid(settings)).toBe(true);
  expect(settings).toEqual({ method: 'hmac_sha1' });
  const { prefix: _, ...said } = DEFAULT_SIGNATURE;
  expect(isValid({ ...said, prefix: 'HMAC ' })).toBe(true);
});

test('unknown settings, methods and header names are refused', () => {
  for (const settings of [{ other: 1 }, { method: 'standard' }, { standard: 'yes' }, []])
    expect(isValid(settings)).toBe(false);
  for (const prefix of [' x', 'a\r\nb', 'ü', 'x'.repeat(33)]) expect(isValid({ prefix })).toBe(false);
  for (const header of ['', 'X: y', 'X\r\nY', 'X Y', 'Ü', 'x'.repeat(65)]) expect(isValid({ header })).toBe(false);
});

test('a header that means something else in a delivery is refused, however it is written', () => {
  for (const header of [
    'Content-Type',
    'HOST',
    'webhook-signature',
    'Webhook-Id',
    'x-webhook-event',
    'Transfer-Encoding',
  ]) {
    expect(signatureSettingsProblem({ header })).toContain(`"${header}"`);
  }
  for (const header of ['X-Webhook-Signature', 'X-Hub-Signature-256', 'Signature']) {
    expect(signatureSettingsProblem({ header })).toBeUndefined();
  }
  expect(signatureSettingsProblem({})).toBeUndefined();
});
