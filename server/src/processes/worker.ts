import { systemClock } from '../kernel/clock.ts';
import { createLogger } from '../kernel/logger.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { type RunningNode, startNode } from '../node.ts';
import type { FromWorker, ProgramState, ToWorker, WorkerOrders } from './messages.ts';

/** How often the node's number is looked at: it changes when others took the node for dead. */
const NODE_LOOK_MS = 1_000;

/**
 * A process that another one started and tells what to do: a node like that of a program of one process. It ends when
 * it is told to, and at once when the supervisor is gone (which `node:cluster` sees to): the data folder is free for
 * another start then.
 */
export function runWorker(): void {
  // Ctrl-C reaches every process of the terminal; the supervisor alone decides what it means.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
  const worker = new Worker();
  process.on('message', (message: ToWorker) => worker.receive(message));
  tell({ kind: 'awake' });
}

function tell(message: FromWorker, onSent: () => void = () => {}): void {
  process.send?.(message, undefined, undefined, onSent);
}

class Worker {
  #state: ProgramState = { outage: undefined, running: 0, of: 0 };
  #starting: Promise<void> = Promise.resolve();
  #node: RunningNode | undefined;
  #requests = 0;
  readonly #waiting = new Map<number, (text: string) => void>();

  receive(message: ToWorker): void {
    switch (message.kind) {
      case 'start':
        this.#state = message.state;
        this.#starting = this.#start(message.orders);
        return;
      case 'state':
        this.#state = message.state;
        return;
      case 'read metrics':
        void this.#node?.metrics().then((snapshot) => tell({ kind: 'metrics', snapshot }));
        return;
      case 'program metrics':
        this.#waiting.get(message.request)?.(message.text);
        this.#waiting.delete(message.request);
        return;
      case 'stop':
        void this.#stop();
        return;
    }
  }

  async #start(orders: WorkerOrders): Promise<void> {
    const { config } = orders;
    try {
      const node = await startNode({
        config,
        connection: orders.connection,
        operatorKey: orders.operatorKey,
        masterKeys: orders.masterKeys,
        soleNode: orders.soleNode,
        databaseOutage: () => this.#state.outage,
        apiConnectionsMax: orders.apiConnectionsMax,
        wholeProgram: {
          processes: () => `${this.#state.running} of ${this.#state.of} running`,
          metrics: () => this.#programMetrics(),
        },
        logger: createLogger(config.logLevel).child({ pid: process.pid }),
        clock: systemClock,
      });
      this.#node = node;
      tell({ kind: 'ready', url: node.url, nodeId: node.nodeId() });
      this.#watchNumber(node, node.nodeId());
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      tell({ kind: 'failed', message, expected: error instanceof StartupError }, () => process.exit(1));
    }
  }

  #watchNumber(node: RunningNode, before: number): void {
    systemClock.after(NODE_LOOK_MS, () => {
      const nodeId = node.nodeId();
      if (nodeId !== before) tell({ kind: 'node', nodeId });
      this.#watchNumber(node, nodeId);
    });
  }

  #programMetrics(): Promise<string> {
    this.#requests += 1;
    const request = this.#requests;
    tell({ kind: 'read program metrics', request });
    return new Promise((resolve) => this.#waiting.set(request, resolve));
  }

  async #stop(): Promise<void> {
    await this.#starting;
    await this.#node?.stop();
    process.exit(0);
  }
}
