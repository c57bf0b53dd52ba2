import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEnginePool } from '../../db/pool.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createIdSource } from '../../kernel/ids.ts';
import { createLogger } from '../../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../testing/database.ts';
import { EndedElsewhere } from '../ended-elsewhere.ts';
import { DeliveryRows } from '../rows.ts';
import { UnderWay } from '../under-way.ts';
import { InHand } from './in-hand.ts';
import { KeySequences } from './key-sequences.ts';
import type { Lane } from './lane.ts';
import { OrderKeeper } from './order-keeper.ts';

const newId = createIdSource();
const logger = createLogger('silent');

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = openEnginePool({ connection: database.connection, logger });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** A node with lanes that keep an order, so many of each tenant; `asked` has the statements that it sends. */
function nodeWith(lanesOf: Record<string, number>) {
  const inHand = new InHand(1_000);
  const lanes: Lane[] = [];
  for (const [tenantId, count] of Object.entries(lanesOf)) {
    for (let n = 0; n < count; n++) {
      const lane = inHand.lane({ tenantId, environmentId: newId(), webhookId: newId() });
      lane.sequences = new KeySequences();
      lanes.push(lane);
    }
  }
  const asked: string[] = [];
  const query = (statement: pg.QueryConfig) => {
    asked.push(statement.name ?? '');
    return pool.query(statement);
  };
  const rows = new DeliveryRows({ query } as unknown as pg.Pool);
  const counts = { again: 0 };
  const order = new OrderKeeper({
    rows,
    clock: systemClock,
    logger,
    lanes: inHand.lanes,
    offer: () => {},
    expect: () => {},
    again: () => {
      counts.again += 1;
    },
    park: () => {},
  });
  const ended = new EndedElsewhere({
    rows,
    inHand,
    underWay: new UnderWay(),
    order,
    letGo: () => {},
    onDropped: () => {},
  });
  return { lanes, asked, counts, order, ended };
}

test('of many lanes a part is looked at in one go, and the others right after: a heartbeat need not wait for all', async () => {
  const { lanes, asked, counts, order } = nodeWith({ [newId()]: 450 });
  order.lookAt(lanes);
  const looks: number[] = [];
  for (let go = 0; go < 4; go++) {
    const before = asked.length;
    await order.restore();
    looks.push(asked.length - before);
  }
  expect(looks).toEqual([200, 200, 50, 0]);
  expect(counts.again).toBe(2);
});

test('what becomes unsure while others are looked at is looked at in the same round', async () => {
  const { lanes, asked, order } = nodeWith({ [newId()]: 250 });
  const [last, ...others] = lanes.toReversed();
  order.lookAt(others);
  await order.restore();
  order.lookAt(last === undefined ? [] : [last]);
  await order.restore();
  expect(asked).toHaveLength(250);
});

test('what is cancelled has only the lanes of its tenant looked at', async () => {
  const [one, other] = [newId(), newId()];
  const { asked, order, ended } = nodeWith({ [one]: 3, [other]: 5 });
  ended.drop([newId()], one);
  await order.restore();
  expect(asked).toEqual(['waiting-keys', 'waiting-keys', 'waiting-keys']);
  ended.drop([newId()]);
  await order.restore();
  expect(asked).toHaveLength(3 + 8);
});
