import type { DeliveryTask } from './task.ts';

/**
 * The deliveries of which a request is under way or its result is being recorded: what was sent and is not recorded yet
 * counts, for it is what is sent again when this node is killed now.
 */
export class UnderWay {
  readonly #tasks = new Map<string, DeliveryTask>();
  /** Those of them whose leases are not this node's any more. */
  readonly #lost = new WeakSet<DeliveryTask>();
  /** Those that share a request, with how many of it are left. */
  readonly #shared = new WeakMap<DeliveryTask, { left: number }>();
  /** How many more deliveries are under way than requests. */
  #sharing = 0;

  /** A batch is one. */
  get requests(): number {
    return this.#tasks.size - this.#sharing;
  }

  find(deliveryId: string): DeliveryTask | undefined {
    return this.#tasks.get(deliveryId);
  }

  /** A request of these is under way from here on. */
  enter(tasks: readonly DeliveryTask[]): void {
    for (const task of tasks) this.#tasks.set(task.id, task);
    if (tasks.length === 1) return;
    const request = { left: tasks.length };
    for (const task of tasks) this.#shared.set(task, request);
    this.#sharing += tasks.length - 1;
  }

  leave(task: DeliveryTask): void {
    this.#tasks.delete(task.id);
    const request = this.#shared.get(task);
    if (request === undefined) return;
    this.#shared.delete(task);
    request.left -= 1;
    if (request.left > 0) this.#sharing -= 1;
  }

  /** Its lease is not this node's any more: what comes of it moves nothing. */
  lose(task: DeliveryTask): void {
    this.#lost.add(task);
  }

  loseAll(): void {
    for (const task of this.#tasks.values()) this.#lost.add(task);
  }

  isLost(task: DeliveryTask): boolean {
    return this.#lost.has(task);
  }
}
