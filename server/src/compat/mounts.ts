import { CALL_CENTER, type Words } from './words.ts';

/** A path of a requirement document, and the canonical one that answers there. */
export interface Mount {
  path: string;
  canonical: string;
  /** The methods that the document has; absent: all. */
  methods?: readonly string[];
  /** Whether all that is below the canonical path is there as well, but for `except`. */
  below?: boolean;
  except?: readonly string[];
  /** Lists that the document pages by `skip` and `limit`, as paths below. Their default limit is the document's 100. */
  skips?: readonly string[];
  /** What the document calls things, where it differs. */
  words?: Words;
}

/**
 * The requirement documents' own paths. Each is the canonical route once more, with its handler, permission, limits and
 * audit: nothing is done here that is not done there. Only names differ.
 */
export const MOUNTS: readonly Mount[] = [
  // isp-communications.md, "Webhook Endpoints".
  {
    path: '/api/communications/webhooks',
    canonical: '/api/v1/webhooks',
    below: true,
    skips: ['', '/:id/logs'],
  },
  // call-center.md, "API Endpoints". What has no example there is called as its page on webhooks calls it.
  {
    path: '/endpoints',
    canonical: '/api/v1/webhooks',
    below: true,
    except: ['/events', '/deliveries'],
    words: CALL_CENTER,
  },
  { path: '/deliveries', canonical: '/api/v1/deliveries', below: true, words: CALL_CENTER },
  { path: '/deliveries/retry/:id', canonical: '/api/v1/deliveries/:id/retry', words: CALL_CENTER },
  { path: '/templates', canonical: '/api/v1/templates', below: true },
  { path: '/analytics/overview', canonical: '/api/v1/analytics/overview', words: CALL_CENTER },
  { path: '/analytics/trends', canonical: '/api/v1/analytics/trends', words: CALL_CENTER },
  { path: '/events/publish', canonical: '/api/v1/events', methods: ['POST'] },
];
