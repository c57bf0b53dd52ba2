import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import { type Dispatcher, Pool } from 'undici';
import { answerCalls } from './part.ts';

/**
 * The floor: the least that a Node process with Posthorn's HTTP libraries must do to take a POST and make a POST of it.
 * No parsing, no validation, no authentication, no database, no signature. It answers 202 when the request is handed
 * to the client library, as it need not wait for anything to be on disk.
 */
export type RelayCalls = {
  /** Returns the relay's own port, on 127.0.0.1. */
  listen(input: { sinkPort: number }): Promise<number>;
};

/** 16 gave the same rate on two cores. */
const CONNECTIONS = 64;
const HEADERS = { 'content-type': 'application/json' };
const ACCEPTED = JSON.stringify({ status: 'accepted' });

answerCalls({
  async listen({ sinkPort }) {
    const sink = new Pool(`http://127.0.0.1:${sinkPort}`, { connections: CONNECTIONS });
    const app = fastify({ logger: false });
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    app.post('/api/v1/events', (request, reply) => {
      sink.dispatch({ method: 'POST', path: '/w/0', headers: HEADERS, body: request.body as Buffer }, DISCARD);
      reply.code(202).type('application/json').send(ACCEPTED);
    });
    await app.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
    return (app.server.address() as AddressInfo).port;
  },
} satisfies RelayCalls);

/** The sink tells what arrived, so a failed forward shows there as missing. */
const DISCARD: Dispatcher.DispatchHandler = {
  onRequestStart() {},
  onResponseStart() {},
  onResponseData() {},
  onResponseEnd() {},
  onResponseError() {},
};
