import path from 'node:path';
import { expect, test } from 'vitest';
import type { RunningPosthorn } from '../app.ts';
import { type Config, readConfig } from '../config.ts';
import { devBanner } from './dev.ts';

const running: RunningPosthorn = {
  url: 'http://127.0.0.1:7678',
  operatorKey: 'ph_op_secret1234567890',
  firstStart: true,
  databaseDescription: 'embedded PostgreSQL 18.4',
  stop: async () => {},
};

function bannerOf(config: Partial<Config>, change: Partial<RunningPosthorn> = {}): string {
  return devBanner({ ...readConfig('dev', {}), ...config }, { ...running, ...change }, process.cwd());
}

test('the first start shows the key and a command that can be pasted as it is', () => {
  const banner = bannerOf({});
  expect(banner).toContain('ph_op_secret1234567890\n');
  expect(banner).toContain(`kept in ${path.join('.posthorn', 'operator.key')}; not shown again`);
  expect(banner).toContain("-H 'Authorization: Bearer ph_op_secret1234567890'");
  expect(banner).toContain('http://127.0.0.1:7678/api/v1/events');
  expect(banner).toContain('npx posthorn receive');
});

test('a later start does not show the key; the command reads it from its file', () => {
  const banner = bannerOf({}, { firstStart: false });
  expect(banner).not.toContain('ph_op_secret');
  expect(banner).toContain('-H "Authorization: Bearer $(cat .posthorn/operator.key)"');
});

test('a data folder with blanks and quotes in its name is quoted for the shell', () => {
  const banner = bannerOf({ dataDir: "/srv/it's $HOME" }, { firstStart: false });
  expect(banner).toContain(`$(cat '/srv/it'\\''s $HOME/operator.key')`);
});

test('a key that was set in the environment is never shown', () => {
  const banner = bannerOf({ operatorKey: 'ph_op_secret1234567890' });
  expect(banner).not.toContain('ph_op_secret');
  expect(banner).toContain('-H "Authorization: Bearer $POSTHORN_OPERATOR_KEY"');
});
