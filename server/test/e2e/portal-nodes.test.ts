import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await startCluster(2);
});
afterEach(() => cluster.stop());

test('a token that one node revokes ends on the other one in less than a second', async () => {
  const [one, two] = cluster.nodes as [TestNode, TestNode];
  const make = async (owner: string): Promise<string> =>
    (await one.call('POST', '/api/v1/portal-tokens', { owner, access: 'read' })).body.token;
  const [anna, bert] = [await make('anna'), await make('bert')];
  const read = async (token: string) =>
    (await two.call('GET', '/api/v1/webhooks', undefined, { authorization: `Bearer ${token}` })).status;
  // The other node now has in memory that nothing is revoked.
  expect([await read(anna), await read(bert)]).toEqual([200, 200]);
  expect((await one.call('POST', '/api/v1/portal-tokens/revoke', { owner: 'anna' })).status).toBe(204);
  await eventually(
    () => read(anna),
    (status) => status === 401,
    1_000,
  );
  expect([await read(bert), await read(await make('anna'))]).toEqual([200, 200]);
});
