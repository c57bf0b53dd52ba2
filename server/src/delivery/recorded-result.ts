import type { AttemptResult } from './outcome.ts';
import type { AttemptRecord } from './recorder.ts';
import { headersAsJson } from './request.ts';

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
    responseHeaders: headersAsJson(result.headers),
    responseBody: result.body,
    responseTruncated: result.truncated,
    errorClass: ok ? null : 'response',
    errorMessage: ok
      ? null
      : `The receiver answered ${result.status}.${redirect ? ' Redirects are not followed.' : ''}`,
  };
}
