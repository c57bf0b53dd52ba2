import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { apiConnectionsFor, connectionsFor } from './connection-budget.ts';

test('all processes together stay within what the database gives, and leave eight connections to others', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 2_000 }), (processes, available) => {
      let each: number;
      try {
        each = apiConnectionsFor(processes, available);
      } catch (error) {
        expect(error).toBeInstanceOf(StartupError);
        expect(processes * 11 + 2 + 8).toBeGreaterThan(available);
        return;
      }
      expect(each).toBeGreaterThanOrEqual(2);
      expect(processes * (9 + each) + 2 + 8).toBeLessThanOrEqual(available);
    }),
  );
});

test('the embedded database is made for full pools, however many processes there are', () => {
  for (const processes of [1, 2, 16, 64]) expect(apiConnectionsFor(processes, connectionsFor(processes))).toBe(10);
});

test('a PostgreSQL with its usual hundred connections carries seven processes, and refuses the eighth in one line', () => {
  expect(apiConnectionsFor(7, 97)).toBe(3);
  expect(() => apiConnectionsFor(8, 97)).toThrow(
    '8 processes need 98 database connections, and PostgreSQL gives 97: raise its max_connections, or lower POSTHORN_PROCESSES.',
  );
});
