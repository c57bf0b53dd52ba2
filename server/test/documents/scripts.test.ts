import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPlay } from '../../src/cli/simulate/plays.ts';
import { type SimulatedEvent, simulate } from '../../src/cli/simulate/simulation.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { hasCurl, hasPython } from './printed-code.ts';

/** The test scripts that isp-framework.md and whatsapp-crm.md speak of, and the services that they are for. */
let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
});
afterAll(async () => {
  await receiver.stop();
  await posthorn.stop();
});

/** Runs a program in the folder of the scripts. */
function run(command: string, args: string[], env: Record<string, string>): Promise<{ code: number; output: string }> {
  const cwd = fileURLToPath(new URL('scripts/', import.meta.url));
  const all = { PATH: process.env.PATH ?? '', API: posthorn.url, RECEIVER: receiver.url, ...env };
  return new Promise((resolve) =>
    execFile(command, args, { cwd, env: all }, (error, output, errors) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: output + errors }),
    ),
  );
}

test.runIf(hasCurl)(
  './test-webhooks-api.sh finds all endpoints of whatsapp-crm.md as they should be',
  async () => {
    const { key } = await openTenant(posthorn, 'script', 'whatsapp-crm');
    const { code, output } = await run('./test-webhooks-api.sh', [], { KEY: key });
    expect([code, output]).toEqual([0, expect.stringMatching(/\nok: deletes\n[\s\S]*\nall is well\n$/)]);
    expect(receiver.requests).toHaveLength(3);
  },
  60_000,
);

test.runIf(hasCurl)('./test-webhooks-api.sh says what is not as it should be', async () => {
  const other = await openTenant(posthorn, 'script-other', 'call-center');
  const { code, output } = await run('./test-webhooks-api.sh', [], { KEY: other.key });
  expect([code, output]).toEqual([1, expect.stringContaining('FAILED: .data.length is 38 in place of 22')]);
});

test.runIf(hasPython)(
  'test_webhook_integration.py registers, and sees the life of customers, bills, services and tickets arrive',
  async () => {
    const { key } = await openTenant(posthorn, 'integration', 'isp-framework');
    const { code, output } = await run('python3', ['test_webhook_integration.py'], { KEY: key });
    expect([code, output]).toEqual([0, expect.stringMatching(/\nok: deliveries\nall is well\n$/)]);
  },
  60_000,
);

test.runIf(hasPython)('test_webhook_integration.py fails where events are not there', async () => {
  const { key } = await openTenant(posthorn, 'integration-other', 'support-autoresponder');
  expect((await run('python3', ['test_webhook_integration.py'], { KEY: key })).code).toBe(1);
});

const typeOf = ({ headers }: ReceivedRequest) => headers['x-webhook-event'];

/** What the play has no event of is published beside it. */
const SERVICES: Record<string, { patterns: string[]; types: string[]; beside: string[] }> = {
  CustomerService: {
    patterns: ['customer.*'],
    types: ['created', 'updated', 'deleted', 'service.created', 'service.updated', 'services.overview'].map(
      (name) => `customer.${name}`,
    ),
    beside: ['customer.updated', 'customer.service.updated', 'customer.deleted'],
  },
  BillingService: {
    patterns: ['invoice.*', 'payment.*'],
    types: ['invoice.created', 'invoice.paid', 'invoice.overdue', 'payment.processed'],
    beside: [],
  },
  TicketingService: {
    patterns: ['ticket.*'],
    types: ['created', 'updated', 'status_changed', 'assigned', 'resolved'].map((name) => `ticket.${name}`),
    beside: ['ticket.updated'],
  },
  NetworkService: {
    patterns: ['network.*'],
    types: ['site.created', 'device.created', 'device.down', 'device.up'].map((name) => `network.${name}`),
    beside: ['network.site.created', 'network.device.created', 'network.device.down', 'network.device.up'],
  },
};

describe('the services of isp-framework.md, as posthorn simulate plays their life', () => {
  let tenant: DocumentTenant;
  const played: SimulatedEvent[] = [];
  const arrivals = new Map<string, Receiver>();
  beforeAll(async () => {
    tenant = await openTenant(posthorn, 'services', 'isp-framework');
    for (const [name, { patterns }] of Object.entries(SERVICES)) {
      const own = await startReceiver();
      arrivals.set(name, own);
      await tenant.createWebhook(own.url, { name, events: patterns });
    }
    for (const event of simulate(findPlay('isp-framework'), 3, Date.parse('2026-01-05T08:00:00Z'))) {
      if (played.push(event) === 400) break;
    }
    const events = played.map(({ eventType, data }) => ({ event_type: eventType, data }));
    expect((await tenant.call('POST', '/api/v1/events/batch', { events })).status).toBe(202);
    for (const { beside } of Object.values(SERVICES)) {
      for (const type of beside) {
        const { sample } = (await tenant.call('GET', `/api/v1/webhooks/events/${type}`)).body;
        await tenant.publish({ event_type: type, data: sample });
      }
    }
    return async () => {
      for (const each of arrivals.values()) await each.stop();
    };
  }, 60_000);

  test.each(Object.keys(SERVICES))(
    'each event of the %s arrives once where it is subscribed to, and no other',
    async (name) => {
      const { types, beside } = SERVICES[name] as (typeof SERVICES)[string];
      const expected = [...played.map(({ eventType }) => eventType).filter((type) => types.includes(type)), ...beside];
      expect([...new Set(expected)].sort()).toEqual([...types].sort());
      const requests = await (arrivals.get(name) as Receiver).received(expected.length);
      expect(requests.map(typeOf).sort()).toEqual(expected.sort());
      const ids = new Set(requests.map(({ headers }) => headers['webhook-id']));
      expect(ids.size).toBe(expected.length);
    },
  );
});
