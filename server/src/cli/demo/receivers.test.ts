import { request } from 'undici';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { DEFAULT_SIGNATURE } from '../../signing/config.ts';
import { prepareSigner } from '../../signing/signer.ts';
import { type DemoReceiver, startDemoReceivers } from './receivers.ts';

let chance = 0;
let receivers: DemoReceiver[];

beforeEach(async () => {
  receivers = await startDemoReceivers({ clock: systemClock, random: () => chance });
});

afterEach(async () => {
  await Promise.all(receivers.map((receiver) => receiver.stop()));
});

function named(name: string): DemoReceiver {
  const found = receivers.find((receiver) => receiver.name === name);
  if (found === undefined) throw new Error(`There is no receiver ${name}.`);
  return found;
}

/** The status of the answer, or the code of the failure. */
async function deliver(receiver: DemoReceiver, attempt: number, secret = receiver.secret): Promise<number | string> {
  const signer = prepareSigner(DEFAULT_SIGNATURE, { secrets: [secret], privateKeys: [] });
  const headers = ['x-webhook-attempt', `${attempt}`];
  headers.push(...signer.sign('evt_1', Math.floor(Date.now() / 1000), Buffer.from('{}')));
  const options = { method: 'POST', headers, body: '{}', reset: true, headersTimeout: 300 } as const;
  return request(receiver.url, options).then(
    async (response) => {
      await response.body.dump();
      return response.statusCode;
    },
    (error: { code: string }) => error.code,
  );
}

test('the healthy one accepts, the dead one breaks the connection', async () => {
  expect(await deliver(named('healthy'), 1)).toBe(200);
  expect(['ECONNRESET', 'UND_ERR_SOCKET']).toContain(await deliver(named('dead'), 1));
});

test('the flaky one succeeds, answers 500, breaks off or stays silent, as chance has it', async () => {
  const outcomes: (number | string)[] = [];
  for (chance of [0.49, 0.74, 0.87, 0.99]) outcomes.push(await deliver(named('flaky'), 1));
  expect(outcomes[0]).toBe(200);
  expect(outcomes[1]).toBe(500);
  expect(['ECONNRESET', 'UND_ERR_SOCKET']).toContain(outcomes[2]);
  expect(outcomes[3]).toBe('UND_ERR_HEADERS_TIMEOUT');
});

test('retries and valid signatures are counted, also where the connection is then broken', async () => {
  for (const receiver of [named('healthy'), named('dead')]) {
    await deliver(receiver, 1);
    await deliver(receiver, 2);
    await deliver(receiver, 3, 'another secret');
    expect(receiver.seen).toEqual({ requests: 3, retries: 2, validSignatures: 2 });
  }
});
