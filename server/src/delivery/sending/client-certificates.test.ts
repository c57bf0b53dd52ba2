import { once } from 'node:events';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CERTIFICATE, CERTIFICATE_KEY, OTHER_CERTIFICATE, OTHER_KEY } from '../../webhooks/auth/certificate-fixture.ts';
import type { ClientCertificate } from '../../webhooks/auth/credentials.ts';
import { openTestSender, type TestSender } from './sender-fixture.ts';

/** Answers with the name in the client's certificate, and where it came from. */
let server: https.Server;
let url: string;
let sender: TestSender;
beforeEach(async () => {
  server = https.createServer(
    {
      cert: CERTIFICATE,
      key: CERTIFICATE_KEY,
      ca: [CERTIFICATE, OTHER_CERTIFICATE],
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => {
      const socket = request.socket as TLSSocket;
      response.end(`${socket.getPeerCertificate().subject?.CN ?? 'nobody'} ${socket.authorized} ${socket.remotePort}`);
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  sender = openTestSender();
});
afterEach(async () => {
  await sender.sender.stop();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const own: ClientCertificate = { id: 'a/1', certificate: CERTIFICATE, privateKey: CERTIFICATE_KEY };
const other: ClientCertificate = { id: 'b/1', certificate: OTHER_CERTIFICATE, privateKey: OTHER_KEY };
/** The name, whether it was trusted, and the port of the connection. */
async function ask(clientCertificate: ClientCertificate | null): Promise<string[]> {
  const result = await sender.send(url, { verifyTls: false, clientCertificate });
  if (result.kind === 'failed') throw new Error(result.message);
  return result.body.toString().split(' ');
}

it('is shown to a receiver that asks for it', async () => {
  expect(await ask(own)).toEqual(['receiver.test', 'true', expect.anything()]);
  expect(await ask(other)).toEqual(['other.test', 'true', expect.anything()]);
  expect(await ask(null)).toEqual(['nobody', 'false', expect.anything()]);
});

it('has connections of its own, which are kept, and never carries what has another or none', async () => {
  const [, , first] = await ask(own);
  const [, , second] = await ask(own);
  expect(second).toBe(first);
  // The same certificate of another webhook.
  const [name, , third] = await ask({ ...own, id: 'b/1' });
  expect(name).toBe('receiver.test');
  expect(third).not.toBe(first);
  const [nobody, , fourth] = await ask(null);
  expect(nobody).toBe('nobody');
  expect([first, third]).not.toContain(fourth);
  // Replaced by another one for the same webhook.
  expect((await ask({ ...other, id: 'a/2' }))[0]).toBe('other.test');
});

it('is verified by the receiver: without it the attempt is of class tls or reset', async () => {
  server.setSecureContext({ cert: CERTIFICATE, key: CERTIFICATE_KEY, ca: CERTIFICATE });
  Object.assign(server, { requestCert: true, rejectUnauthorized: true });
  const refused = await sender.send(url, { verifyTls: false, clientCertificate: other });
  expect(refused).toMatchObject({ kind: 'failed', errorClass: expect.stringMatching(/^(tls|reset)$/) });
  expect(await ask(own)).toEqual(['receiver.test', 'true', expect.anything()]);
});
