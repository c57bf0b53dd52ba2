import type { AttemptResult } from './outcome.ts';
import type { Sender } from './sender.ts';

/** Why a document could not be had; `code` is an error class of attempts, or what was wrong with the answer. */
export class FetchDocumentError extends Error {
  override name = 'FetchDocumentError';
  readonly code: string;

  constructor(code: string) {
    super(`The document could not be fetched: ${code}.`);
    this.code = code;
  }
}

/**
 * Fetches a small document for the program itself as safely as deliveries go out: through the egress guard, without
 * redirects, at most 64 KB and five seconds.
 *
 * @throws FetchDocumentError for anything but a complete answer of status 200.
 */
export async function fetchDocument(sender: Sender, url: URL, userAgent: string): Promise<Buffer> {
  const headers = ['user-agent', userAgent, 'accept', 'application/json'];
  const request = { url, method: 'GET', headers, body: null, timeoutMs: TIMEOUT_MS, verifyTls: true };
  const result = await new Promise<AttemptResult>((settle) => sender.send(request, settle));
  if (result.kind === 'failed') throw new FetchDocumentError(result.errorClass);
  if (result.status !== 200) throw new FetchDocumentError(`status_${result.status}`);
  if (result.truncated) throw new FetchDocumentError('too_large');
  return result.body;
}

const TIMEOUT_MS = 5_000;
