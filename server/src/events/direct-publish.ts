import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import { type Admit, type Caller, type Grant, permits } from '../http/caller.ts';
import type { DirectAnswer, DirectRequest, DirectRoute } from '../http/direct/direct-connection.ts';
import { problemOf } from '../http/problem.ts';
import { newRequestId } from '../http/request-id.ts';
import { BODY_BYTES_MAX, BODY_DEPTH_MAX } from '../http/server.ts';
import { compileBody } from '../http/validation.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import type { Logger } from '../kernel/logger.ts';
import { parseRawJson } from '../kernel/raw-json.ts';
import { PublishBody, type PublishRequest, readPublishRequest } from './publish-request.ts';
import { giveBackDuplicates, giveBackRefused, type TakeEvents, tightestHeaders } from './publish-within-limits.ts';
import type { Publisher } from './publisher.ts';

/** Larger bodies are read only when the limits let the request in: reading one of a megabyte takes milliseconds. */
const READ_FIRST_BYTES_MAX = 65_536;

export interface DirectPublishOptions {
  /** Who is asking, when that is known from memory alone; undefined for all else. */
  recognize: (headers: DirectRequest['headers']) => Caller | undefined;
  admit: Admit;
  takeEvents: TakeEvents;
  publisher: Publisher;
  clock: Clock;
  logger: Logger;
  /** Why the database is away, when it is and that is known. */
  databaseOutage?: (() => DatabaseOutage | undefined) | undefined;
}

/**
 * `POST /api/v1/events` without the HTTP server. What is wrong with a request is said by the route that the server has
 * (`publish-routes.ts`), and so is what needs a look into the database before it can be judged: here they are left alone.
 * So is whoever is not known from memory: failed authentication is counted, by address, in one place.
 *
 * A 429 is answered here, since a connection that the server gets stays with it: whoever meets a limit would from then
 * on cost more than others.
 */
export function directPublish(options: DirectPublishOptions): DirectRoute {
  const { publisher, logger } = options;
  const isPublishBody = compileBody<PublishBody>(PublishBody);

  const read = (body: Buffer): PublishRequest | undefined => {
    try {
      const raw = parseRawJson(body, { maxDepth: BODY_DEPTH_MAX });
      const { value } = raw;
      if (!isPublishBody(value)) return undefined;
      return readPublishRequest(value, raw, options.clock.now());
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
      const caller = options.recognize(request.headers);
      if (caller === undefined || !permits(caller, 'publish')) return false;
      const fail = (error: unknown, headers?: DirectAnswer['headers']) => {
        const problem = problemOf(error, { requestId: request.id, logger, outage: options.databaseOutage?.() });
        answer({
          status: problem.status,
          headers: { ...headers, ...problem.headers },
          body: JSON.stringify(problem.body),
        });
      };

      // What the server's route refuses is for that to count.
      const small = request.body.length <= READ_FIRST_BYTES_MAX;
      const readFirst = small ? read(request.body) : undefined;
      if (small && readFirst === undefined) return false;
      let admitted: Grant | undefined | Promise<Grant | undefined>;
      try {
        admitted = options.admit(caller, true);
      } catch (error) {
        if (!isLimit(error)) return false;
        fail(error);
        return true;
      }
      const event = readFirst ?? read(request.body);
      if (event === undefined) {
        // The server's route takes it again.
        if (admitted instanceof Promise) admitted.then((grant) => grant?.giveBack(1)).catch(() => {});
        else admitted?.giveBack(1);
        return false;
      }

      const publish = (admission: Grant | undefined, grant: Grant | undefined) => {
        const headers = tightestHeaders(admission, grant);
        publisher.publishOne(caller, event, (error, result) => {
          if (result === undefined) {
            giveBackRefused(grant, error, 1);
            fail(error, headers);
            return;
          }
          giveBackDuplicates(grant, [result]);
          answer({ status: 202, ...(headers && { headers }), body: JSON.stringify(result) });
        });
      };
      const takeAndPublish = (admission: Grant | undefined) => {
        try {
          const grant = options.takeEvents(caller, [event.data.length]);
          if (grant instanceof Promise) grant.then((taken) => publish(admission, taken)).catch(fail);
          else publish(admission, grant);
        } catch (error) {
          fail(error);
        }
      };
      if (admitted instanceof Promise) admitted.then(takeAndPublish, fail);
      else takeAndPublish(admitted);
      return true;
    },
  };
}

function isLimit(error: unknown): boolean {
  return error instanceof AppError && error.status === 429;
}
