import type { WebhookTarget } from '../webhooks/target.ts';
import type { Attempts } from './attempts.ts';
import { gatherBatch } from './batches/batch.ts';
import type { InHand } from './lanes/in-hand.ts';
import type { AttemptRecord, Recorder } from './recorder.ts';
import type { DeliveryTask } from './task.ts';
import type { TokenResult, Tokens } from './tokens.ts';

/** A test goes by itself, in the form of a batch where its webhook has batching. */
const ONE_EVENT = { events: 1, bytes: 0 };
const NOTHING_WAITS = { peek: () => undefined, shift: () => undefined };

/** Deliveries that test a webhook. Each has somebody waiting for its attempt. */
export class WebhookTests {
  readonly #options: { inHand: InHand; tokens: Tokens; attempts: Attempts; recorder: Recorder };
  readonly #testers = new Map<string, (record: AttemptRecord) => void>();

  constructor(options: { inHand: InHand; tokens: Tokens; attempts: Attempts; recorder: Recorder }) {
    this.#options = options;
  }

  /** Sends a test at once, past the queue and whatever the webhook's status is; resolves when it is recorded. */
  send(task: DeliveryTask, target: WebhookTarget): Promise<AttemptRecord> {
    const { inHand, tokens, attempts, recorder } = this.#options;
    inHand.hold(task);
    const batch = target.batching === null ? undefined : gatherBatch(task, target, ONE_EVENT, NOTHING_WAITS);
    return new Promise((resolve) => {
      this.#testers.set(task.id, resolve);
      const make = (token: TokenResult | undefined) => {
        attempts.make({ tasks: [task], batch }, target, { kind: 'test' }, token, ({ records }) => {
          for (const record of records ?? []) recorder.add(record);
        });
      };
      const token = tokens.forRequest(target, undefined);
      if (token instanceof Promise) void token.then(make);
      else make(token);
    });
  }

  recorded(record: AttemptRecord): void {
    this.#testers.get(record.task.id)?.(record);
    this.#testers.delete(record.task.id);
  }
}
