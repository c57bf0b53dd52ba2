import type { EgressGuard } from '../../webhooks/egress/guard.ts';

/** What a URL says about where and how to connect. */
export interface Destination {
  /** Why nothing is sent there; undefined: the URL itself gives no reason. */
  readonly refusal: string | undefined;
  readonly origin: string;
  /** Host and port as the `Host` header names them. */
  readonly authority: string;
  /** Path and query, percent-encoded. */
  readonly path: string;
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/**
 * Destinations of URLs, each read and judged once for as long as its URL object lives, which is as long as its webhook
 * is unchanged: reading and judging the parts anew would take 1 to 3 us of each request.
 */
export class Destinations {
  readonly #guard: EgressGuard;
  readonly #known = new WeakMap<URL, Destination>();

  constructor(guard: EgressGuard) {
    this.#guard = guard;
  }

  of(url: URL): Destination {
    let known = this.#known.get(url);
    if (known === undefined) {
      const tls = url.protocol === 'https:';
      known = {
        // A name is judged when it is looked up, at every connect. An address is what it is.
        refusal: this.#guard.judgeLiteral(url.hostname),
        origin: url.origin,
        authority: url.host,
        path: url.pathname + url.search,
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port === '' ? (tls ? 443 : 80) : Number(url.port),
        tls,
      };
      this.#known.set(url, known);
    }
    return known;
  }
}
