/** The keys that a webhook signs with now: newest first, and during a rotation the ones that still count after it. */
export interface SigningKeys {
  secrets: readonly string[];
  /** `whsk_` keys of `generateKeyPair`. */
  privateKeys: readonly string[];
}

/**
 * Signs one attempt. `prefix` is `<message id>.<timestamp>.`, which Standard Webhooks signs before the body; schemes
 * that sign the body alone leave it aside. Returns what the header says: printable ASCII.
 */
export type Sign = (prefix: string, body: Buffer) => string;

/** How a scheme with a header of its own writes its digest, where the webhook does not leave it to the scheme. */
export interface DigestForm {
  /** What stands before it; null: as the scheme says. */
  readonly prefix: string | null;
  readonly encoding: 'hex' | 'base64';
}

/** The contract of a signing scheme. The conformance test runs every registered scheme through it. */
export interface SigningScheme {
  /** What configuration and API call it. */
  readonly name: string;
  /**
   * `webhook-signature`: one more signature in the header that the Standard Webhooks schemes share.
   * `own`: a header of its own, whose name the webhook chooses.
   */
  readonly header: 'webhook-signature' | 'own';
  /**
   * Builds the key objects, once for many deliveries: importing a key costs as much as signing with it. `form` is for
   * schemes with a header of their own.
   * @throws Error when the keys it needs are missing or cannot be read, without the key in its text.
   */
  prepare(keys: SigningKeys, form?: DigestForm): Sign;
}
