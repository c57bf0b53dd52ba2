import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import type { Authenticate, Caller } from '../http/caller.ts';
import type { DirectRequest, DirectRoute } from '../http/direct/direct-connection.ts';
import { may } from '../http/permissions.ts';
import { problemOf } from '../http/problem.ts';
import { newRequestId } from '../http/request-id.ts';
import { BODY_BYTES_MAX, BODY_DEPTH_MAX } from '../http/server.ts';
import { compileBody } from '../http/validation.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { parseRawJson } from '../kernel/raw-json.ts';
import { PublishBody, type PublishRequest, readPublishRequest } from './publish-request.ts';
import type { Publisher } from './publisher.ts';

export interface DirectPublishOptions {
  authenticate: Authenticate;
  publisher: Publisher;
  clock: Clock;
  logger: Logger;
  /** Why the database is away, when it is and that is known. */
  databaseOutage?: (() => DatabaseOutage | undefined) | undefined;
}

/**
 * `POST /api/v1/events` without the HTTP server. What is wrong with a request is said by the route that the server has
 * (`publish-routes.ts`), and so is what needs a look into the database before it can be judged: here they are left alone.
 */
export function directPublish(options: DirectPublishOptions): DirectRoute {
  const { publisher, logger } = options;
  const isPublishBody = compileBody<PublishBody>(PublishBody);

  /** Undefined: not by this way. */
  const read = ({ headers, body }: DirectRequest): { caller: Caller; event: PublishRequest } | undefined => {
    try {
      const caller = options.authenticate({ headers });
      if (caller instanceof Promise) {
        // The server's route asks again and answers what comes of it: here nobody waits for it, also when it fails.
        caller.catch(() => {});
        return undefined;
      }
      if (!may(caller.role, 'publish')) return undefined;
      const raw = parseRawJson(body, { maxDepth: BODY_DEPTH_MAX });
      const { value } = raw;
      if (!isPublishBody(value)) return undefined;
      return { caller, event: readPublishRequest(value, raw, options.clock.now()) };
    } catch {
      // It is refused, and the server's route finds the same again and says so.
      return undefined;
    }
  };

  return {
    requestLine: 'POST /api/v1/events HTTP/1.1',
    bodyBytesMax: BODY_BYTES_MAX,
    newRequestId,
    handle(request, answer) {
      const found = read(request);
      if (found === undefined) return false;
      publisher.publishOne(found.caller, found.event, (error, result) => {
        if (result !== undefined) {
          answer({ status: 202, body: JSON.stringify(result) });
          return;
        }
        const outage = options.databaseOutage?.();
        const { status, headers, body } = problemOf(error, { requestId: request.id, logger, outage });
        answer({ status, headers, body: JSON.stringify(body) });
      });
      return true;
    },
  };
}
