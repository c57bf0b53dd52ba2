import type { WebhookTarget } from '../webhooks/target.ts';
import { ALWAYS, type Attempts, CANCELS_TEST } from './attempts.ts';
import { type Batch, gatherBatch } from './batches/batch.ts';
import type { BatchShaper } from './batches/batch-shaper.ts';
import type { InHand } from './lanes/in-hand.ts';
import type { AttemptRecord, Recorder } from './recorder.ts';
import type { DeliveryTask } from './task.ts';
import type { TokenResult, Tokens } from './tokens.ts';

/** A test goes by itself, in the form of a batch where its webhook has batching. */
const ONE_EVENT = { events: 1, bytes: 0 };
const TEST = { kind: 'test' } as const;
const NOTHING_WAITS = { peek: () => undefined, shift: () => undefined };

export interface WebhookTestsOptions {
  inHand: InHand;
  tokens: Tokens;
  attempts: Attempts;
  batchShaper: BatchShaper;
  recorder: Recorder;
}

/** Deliveries that test a webhook. Each has somebody waiting for its attempt. */
export class WebhookTests {
  readonly #options: WebhookTestsOptions;
  readonly #testers = new Map<string, (record: AttemptRecord) => void>();

  constructor(options: WebhookTestsOptions) {
    this.#options = options;
  }

  /** Sends a test at once, past the queue and whatever the webhook's status is; resolves when it is recorded. */
  send(task: DeliveryTask, target: WebhookTarget): Promise<AttemptRecord> {
    const { inHand, tokens } = this.#options;
    inHand.hold(task);
    return new Promise((resolve) => {
      this.#testers.set(task.id, resolve);
      const make = (token: TokenResult | undefined) => this.#make(task, target, token);
      const token = tokens.forRequest(target, undefined);
      if (token instanceof Promise) void token.then(make);
      else make(token);
    });
  }

  #make(task: DeliveryTask, target: WebhookTarget, token: TokenResult | undefined): void {
    const { batching, shaping } = target;
    if (batching === null) this.#send(task, undefined, target, token);
    else if (shaping === null || token?.ok === false) {
      this.#send(task, gatherBatch(task, target, ONE_EVENT, NOTHING_WAITS), target, token);
    } else {
      const { batchShaper, attempts } = this.#options;
      batchShaper.shape([task], target, shaping, batching.maxBytes, ALWAYS, ({ batch, failed }) => {
        if (batch !== undefined) this.#send(task, batch, target, token);
        else this.#record(attempts.unshaped(failed[0] ?? { task, fault: CANCELS_TEST, template: null }, target, TEST));
      });
    }
  }

  #send(task: DeliveryTask, batch: Batch | undefined, target: WebhookTarget, token: TokenResult | undefined): void {
    const load = { tasks: [task], batch };
    this.#options.attempts.make(load, target, TEST, token, ALWAYS, ({ records }) => this.#record(records ?? []));
  }

  #record(records: readonly AttemptRecord[]): void {
    for (const record of records) this.#options.recorder.add(record);
  }

  recorded(record: AttemptRecord): void {
    this.#testers.get(record.task.id)?.(record);
    this.#testers.delete(record.task.id);
  }
}
