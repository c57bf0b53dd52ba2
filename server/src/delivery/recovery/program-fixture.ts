import { expect } from 'vitest';
import { eventually } from '../../testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../testing/receiver.ts';

type Headers = Record<string, string>;
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
type Shown = any;

/** The whole program, a receiver, and the few steps that tests of recovery begin with. */
export interface ProgramFixture {
  posthorn: TestPosthorn;
  receiver: Receiver;
  post(path: string, body?: unknown, headers?: Headers): Promise<Answer>;
  get(path: string, headers?: Headers): Promise<Shown>;
  createWebhook(fields?: object, headers?: Headers): Promise<Shown>;
  /** Gives the event's id. */
  publish(fields?: object, headers?: Headers): Promise<string>;
  /** The newest delivery of the event, once it has this status. */
  deliveryIn(status: string, eventId: string): Promise<Shown>;
  /** The job once it has ended. */
  ended(jobId: string): Promise<Shown>;
  /** Headers of a key of this role, in the environment that `headers` name. */
  keyOf(role: string, headers?: Headers): Promise<Headers>;
  /** A tenant of its own: headers with which the operator acts for it. */
  addTenant(slug: string): Promise<Headers>;
  stop(): Promise<void>;
}

export async function startProgram(): Promise<ProgramFixture> {
  const posthorn = await startTestPosthorn();
  const receiver = await startReceiver();
  const expecting = async (status: number, answer: Promise<Answer>): Promise<Shown> => {
    const { status: given, text, body } = await answer;
    expect([given, text]).toEqual([status, text]);
    return body;
  };
  const fixture: ProgramFixture = {
    posthorn,
    receiver,
    post: (path, body, headers) => posthorn.call('POST', `/api/v1${path}`, body, headers),
    get: (path, headers) => expecting(200, posthorn.call('GET', `/api/v1${path}`, undefined, headers)),
    createWebhook: (fields, headers) => {
      const webhook = { name: 'W', url: receiver.url, events: ['*'], retry_count: 0, ...fields };
      return expecting(201, fixture.post('/webhooks', webhook, headers));
    },
    publish: async (fields, headers) => {
      const event = { event_type: 'order.paid', data: { n: 1 }, ...fields };
      return (await expecting(202, fixture.post('/events', event, headers))).id;
    },
    deliveryIn: (status, eventId) =>
      eventually(
        async () => (await fixture.get(`/deliveries?event_id=${eventId}`)).data[0],
        (delivery) => delivery?.status === status,
      ),
    ended: (jobId) =>
      eventually(
        () => fixture.get(`/replays/${jobId}`),
        ({ status }) => status !== 'queued' && status !== 'running',
      ),
    keyOf: async (role, headers) => {
      const { key } = await expecting(201, fixture.post('/api-keys', { name: role, role }, headers));
      return { authorization: `Bearer ${key}` };
    },
    addTenant: async (slug) => {
      await expecting(
        201,
        fixture.post('/tenants', { name: slug, slug, settings: { allow_unknown_event_types: true } }),
      );
      return { 'x-tenant-id': slug };
    },
    stop: async () => {
      await posthorn.stop();
      await receiver.stop();
    },
  };
  return fixture;
}
