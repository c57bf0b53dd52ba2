import type { AttemptResult } from './outcome.ts';
import type { AttemptRecord } from './recorder.ts';

/** What an attempt's row says of its answer. */
type RecordedResult = Pick<
  AttemptRecord,
  'responseStatus' | 'responseHeaders' | 'responseBody' | 'responseTruncated' | 'errorClass' | 'errorMessage'
>;

/** Turns what came of a request into the columns of its record. */
export function recordedResult(result: AttemptResult): RecordedResult {
  if (result.kind === 'failed') {
    return {
      responseStatus: null,
      responseHeaders: null,
      responseBody: null,
      responseTruncated: false,
      errorClass: result.errorClass,
      errorMessage: result.message,
    };
  }
  const ok = result.status >= 200 && result.status < 300;
  const redirect = result.status >= 300 && result.status < 400;
  return {
    responseStatus: result.status,
    responseHeaders: recordedHeaders(result.headers),
    responseBody: result.body,
    responseTruncated: result.truncated,
    errorClass: ok ? null : 'response',
    errorMessage: ok
      ? null
      : `The receiver answered ${result.status}.${redirect ? ' Redirects are not followed.' : ''}`,
  };
}

/** A receiver's answers often have the same headers, and then they are the same array. */
const recorded = new WeakMap<readonly string[], string>();

function recordedHeaders(headers: readonly string[]): string {
  let text = recorded.get(headers);
  if (text === undefined) {
    text = headersAsJson(headers);
    recorded.set(headers, text);
  }
  return text;
}

/** Names in lower case; a name that comes twice has its values joined, as RFC 9110 (section 5.3) joins them. */
function headersAsJson(headers: readonly string[]): string {
  // Without a prototype: a receiver may well send a header called "constructor" or "__proto__".
  const merged: Record<string, string> = Object.create(null);
  for (let at = 0; at < headers.length; at += 2) {
    const name = (headers[at] ?? '').toLowerCase();
    const value = headers[at + 1] ?? '';
    const known = merged[name];
    merged[name] = known === undefined ? value : `${known}, ${value}`;
  }
  return JSON.stringify(merged);
}
