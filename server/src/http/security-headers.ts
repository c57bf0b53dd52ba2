import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import helmet, { type HelmetOptions } from 'helmet';

const NOTHING = ["'none'"];

/**
 * On every answer: that a browser which is led to it shows, runs and embeds nothing of it, and that nobody keeps it,
 * for many answers hold a tenant's data, and some a secret. Names in lower case.
 *
 * There is no `Strict-Transport-Security`: it is a promise of the host that has the certificate, for all that runs
 * there, and Posthorn speaks plain HTTP behind it.
 */
export const ANSWER_HEADERS: Readonly<Record<string, string>> = {
  ...collect({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: NOTHING, frameAncestors: NOTHING },
    },
    frameguard: { action: 'deny' },
    strictTransportSecurity: false,
    // These are about pages.
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  }),
  'cache-control': 'no-store',
};

/** The same as the lines of a head, for an answer that is written to its socket without Node's response. */
export const ANSWER_HEADER_LINES = Object.entries(ANSWER_HEADERS)
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join('');

/**
 * For a page that loads scripts and styles from this server only. It runs no other script than those and the inline
 * ones whose hashes are given (`sha256-…`); styles may stand in the page, as libraries write them there.
 */
export function pageHeaders(inlineScriptHashes: readonly string[]): Record<string, string> {
  return collect({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: NOTHING,
        scriptSrc: ["'self'", ...inlineScriptHashes.map((hash) => `'${hash}'`)],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:', 'blob:'],
        fontSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        baseUri: NOTHING,
        formAction: NOTHING,
        frameAncestors: NOTHING,
      },
    },
    frameguard: { action: 'deny' },
    strictTransportSecurity: false,
  });
}

/** What helmet would set on a response. Once, and not for each: the same always comes of it. */
function collect(options: HelmetOptions): Record<string, string> {
  const request = new IncomingMessage(new Socket());
  const response = new ServerResponse(request);
  helmet(options)(request, response, () => {});
  return response.getHeaders() as Record<string, string>;
}
