import { type Clock, systemClock } from '../../kernel/clock.ts';
import { createEgressGuard, type EgressGuard, type Resolve } from '../../webhooks/egress/guard.ts';
import type { EgressProxy } from '../../webhooks/egress/proxy.ts';
import type { AttemptResult } from '../outcome.ts';
import { createSender, type OutgoingRequest, type Sender } from '../sender.ts';

/** Every name leads to this machine, where the receivers of the tests are. */
export const toLoopback: Resolve = (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]);

export function loopbackGuard(
  options: { resolve?: Resolve; allow?: string[]; clock?: Clock; proxy?: EgressProxy } = {},
): EgressGuard {
  return createEgressGuard({ allow: ['127.0.0.0/8'], requireHttps: false, resolve: toLoopback, ...options });
}

export interface TestSender {
  sender: Sender;
  /** Sends a POST and gives what came of it. */
  send(url: string, changes?: Partial<OutgoingRequest>): Promise<AttemptResult>;
}

export function openTestSender(options: { guard?: EgressGuard; clock?: Clock } = {}): TestSender {
  const { clock = systemClock, guard = loopbackGuard() } = options;
  const sender = createSender({ clock, guard });
  return {
    sender,
    send: (url, changes = {}) => new Promise((settle) => sender.send(requestTo(url, changes), settle)),
  };
}

export function requestTo(url: string, changes: Partial<OutgoingRequest> = {}): OutgoingRequest {
  const body = Buffer.from('{"a":1}');
  return { url: new URL(url), method: 'POST', headers: [], body, timeoutMs: 10_000, verifyTls: true, ...changes };
}
