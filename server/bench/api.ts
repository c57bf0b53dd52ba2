import { formatId, parseId } from '../src/kernel/ids.ts';

/** The caller's headers: the operator key, and the tenant when it is not the default one. */
type Headers = Readonly<Record<string, string>>;

export interface NewWebhook {
  /** Slug of its tenant. */
  tenant: string;
  eventType: string;
  url: string;
  paused?: boolean;
  /** false: it is sent to however often it fails. */
  circuitBreaker?: boolean;
  /** What makes its bodies. */
  template?: object;
}

/** Requests under way at once when many things are made. */
const AT_ONCE = 8;

/** Posthorn's API, as far as the bench needs it to set up a scenario. */
export class Api {
  readonly #origin: string;
  readonly #operator: Headers;

  constructor(origin: string, operatorKey: string) {
    this.#origin = origin;
    this.#operator = { Authorization: `Bearer ${operatorKey}` };
  }

  /** What a publish for a tenant carries; the slug may hold a turn. */
  headersOf(tenant: string): Headers {
    return { ...this.#operator, 'X-Tenant-Id': tenant };
  }

  async isReady(): Promise<boolean> {
    try {
      const response = await fetch(`${this.#origin}/health/ready`);
      await response.body?.cancel();
      return response.status === 200;
    } catch {
      // Nobody listens yet.
      return false;
    }
  }

  /** How many of its processes run and take requests, in the server's words: `2 of 2 running`. */
  async processes(): Promise<string | undefined> {
    const response = await fetch(`${this.#origin}/health/ready`);
    const { checks } = (await response.json()) as { checks: { processes?: string } };
    return checks.processes;
  }

  /** Makes tenants that may publish any event type. */
  async createTenants(slugs: readonly string[]): Promise<void> {
    await inParallel(slugs, async (slug) => {
      const settings = { allow_unknown_event_types: true };
      await this.#call('POST', '/api/v1/tenants', this.#operator, { name: slug, slug, settings });
    });
  }

  /** Returns their ids as the database has them, in the order given. */
  async createWebhooks(webhooks: readonly NewWebhook[]): Promise<string[]> {
    const ids: string[] = [];
    const numbered = webhooks.map((webhook, index) => ({ webhook, index }));
    await inParallel(numbered, async ({ webhook, index }) => {
      const { tenant, eventType, url, paused = false, circuitBreaker = true, template } = webhook;
      const created = await this.#call('POST', '/api/v1/webhooks', this.headersOf(tenant), {
        name: `${eventType} ${index}`,
        url,
        events: [eventType],
        status: paused ? 'paused' : 'active',
        ...(template !== undefined && { transformation: { template } }),
        ...(!circuitBreaker && { circuit_breaker: { enabled: false } }),
      });
      ids[index] = parseId('webhook', String(created.id)) ?? '';
    });
    return ids;
  }

  /** Reads what a route answers with. */
  get(tenant: string, path: string): Promise<Record<string, unknown>> {
    return this.#call('GET', path, this.headersOf(tenant));
  }

  async setStatus(tenant: string, ids: readonly string[], status: 'active' | 'paused'): Promise<void> {
    await inParallel(ids, async (id) => {
      await this.#call('PATCH', webhookPath(id), this.headersOf(tenant), { status });
    });
  }

  async deleteWebhooks(tenant: string, ids: readonly string[]): Promise<void> {
    await inParallel(ids, async (id) => {
      await this.#call('DELETE', webhookPath(id), this.headersOf(tenant));
    });
  }

  /** Has records whose time is over removed, in the background. */
  async runRetention(): Promise<void> {
    const { started } = await this.#call('POST', '/api/v1/retention/run', this.#operator);
    if (started !== true) throw new Error('Retention was under way already.');
  }

  async #call(method: string, where: string, headers: Headers, body?: unknown): Promise<Record<string, unknown>> {
    const response = await fetch(this.#origin + where, {
      method,
      ...(body === undefined
        ? { headers }
        : { headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${where} answers ${response.status} ${text.slice(0, 300)}`);
    return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  }
}

function webhookPath(id: string): string {
  return `/api/v1/webhooks/${formatId('webhook', id)}`;
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
