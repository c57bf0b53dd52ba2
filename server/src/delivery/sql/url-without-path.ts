/**
 * SQL: what is left of an attempt's `url` when what a template made goes. A transform may have put values of the event
 * into the URL; which host was asked stays on record.
 */
export const URL_WITHOUT_PATH = `regexp_replace(url, '^([^:]+://[^/?#]+).*$', '\\1/')`;
