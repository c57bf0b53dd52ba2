import type { BodyHmacMethod } from '../../signing/config.ts';
import { type SignedHeaders, type Verification, verifyLegacy, verifyStandard } from '../../signing/verify.ts';

/** What became of the check of one signature; `valid` is undefined when nothing could be checked. */
export interface Verdict {
  valid: boolean | undefined;
  /** For people; holds nothing of the request. */
  text: string;
}

/** The header of the signatures of the body alone, as Posthorn names it unless a webhook says otherwise. */
const BODY_SIGNATURE_HEADER = 'x-webhook-signature';

/**
 * Checks every signature that a request carries: Standard Webhooks, and the HMAC of the body in `X-Webhook-Signature`.
 * At least one verdict. The body is what came over the wire, before any decoding.
 */
export function judgeSignatures(
  headers: SignedHeaders,
  body: Buffer,
  secret: string | undefined,
  nowMs: number,
): Verdict[] {
  const hasStandard = headers['webhook-signature'] !== undefined;
  const bodySignature = [headers[BODY_SIGNATURE_HEADER] ?? []].flat()[0];
  if (!hasStandard && bodySignature === undefined) {
    return [{ valid: undefined, text: 'none: neither webhook-signature nor X-Webhook-Signature was sent' }];
  }
  if (secret === undefined) return [{ valid: undefined, text: 'not checked: the secret is not known (--secret)' }];

  const verdicts: Verdict[] = [];
  if (hasStandard) {
    verdicts.push(toVerdict('Standard Webhooks', verifyStandard(headers, body, secret, nowMs)));
  }
  if (bodySignature !== undefined) {
    const method = methodOf(bodySignature);
    const verification = verifyLegacy(headers, body, secret, { method, header: BODY_SIGNATURE_HEADER });
    verdicts.push(toVerdict(`X-Webhook-Signature, ${METHOD_NAMES[method]}`, verification));
  }
  return verdicts;
}

const METHOD_NAMES: Record<BodyHmacMethod, string> = {
  hmac_sha256_hex: 'HMAC-SHA256 as hex',
  hmac_sha256: 'HMAC-SHA256 as sha256=<hex>',
  hmac_sha1: 'HMAC-SHA1 as sha1=<hex>',
};

function methodOf(signature: string): BodyHmacMethod {
  if (signature.startsWith('sha256=')) return 'hmac_sha256';
  return signature.startsWith('sha1=') ? 'hmac_sha1' : 'hmac_sha256_hex';
}

function toVerdict(scheme: string, verification: Verification): Verdict {
  return verification.valid
    ? { valid: true, text: `valid (${scheme})` }
    : { valid: false, text: `NOT VALID (${scheme}): ${explain(verification)}` };
}

function explain(failure: Exclude<Verification, { valid: true }>): string {
  switch (failure.reason) {
    case 'missing_header':
      return `the header ${failure.header} is missing`;
    case 'repeated_header':
      return `the header ${failure.header} came twice`;
    case 'malformed_timestamp':
      return 'webhook-timestamp is not a number of seconds';
    case 'timestamp_too_old':
      return 'webhook-timestamp is more than five minutes ago';
    case 'timestamp_too_new':
      return 'webhook-timestamp is more than five minutes ahead';
    case 'no_matching_signature':
      return 'it does not match the body and the secret';
  }
}
