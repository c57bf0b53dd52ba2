/** Values under such header names are taken for credentials. It rather masks too much (`X-Author`) than too little. */
export function isSecretHeader(name: string): boolean {
  return /auth|cookie|credential|key|passw|secret|session|token/i.test(name);
}

/** What is the same in `api_key`, `apiKey`, `Api-Key` and `API KEY`. */
export function plainName(name: string): string {
  return name.replace(/[\s_.-]/g, '').toLowerCase();
}

/**
 * Members of payloads with such names hold credentials. Stricter than for headers, because a payload has keys, authors
 * and sessions that are none. The name is one of `plainName`.
 */
export function isSecretName(plain: string): boolean {
  return HOLDING.test(plain) || ENDING.test(plain) || WHOLE.has(plain);
}

const HOLDING = /passw|passphrase|secret|apikey|privatekey|accesskey|encryptionkey|signingkey|credential|cookie/;
const ENDING = /(?:authorization|token|pwd|ssn)$/;
const WHOLE: ReadonlySet<string> = new Set([
  'auth',
  'authheader',
  'authorizationcode',
  'authorizationheader',
  'bearer',
  'cvc',
  'cvc2',
  'cvv',
  'cvv2',
  'otp',
  'pin',
  'sessiontoken',
  'socialsecuritynumber',
]);

/** Names whose values are telephone numbers, however they are written. */
export function isPhoneName(plain: string): boolean {
  return /phone|msisdn|whatsapp/.test(plain) || PHONE_NAMES.has(plain);
}

const PHONE_NAMES: ReadonlySet<string> = new Set([
  'callednumber',
  'callerid',
  'callernumber',
  'cell',
  'fax',
  'faxnumber',
  'fromnumber',
  'mobile',
  'mobilenumber',
  'tel',
  'tonumber',
]);
