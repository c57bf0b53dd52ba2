import { afterAll, beforeAll, beforeEach } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';

/** The program, and for each test a new receiver, and a new tenant with the preset of the document. */
export let posthorn: TestPosthorn;
export let receiver: Receiver;
export let tenant: DocumentTenant;
/** The tenant's. */
export let slug: string;

/** To be called once at the top of a test file. `preset`: the document's, by which its tenants are named, too. */
export function testDocument(preset: string): void {
  beforeAll(async () => {
    posthorn = await startTestPosthorn();
  });
  afterAll(() => posthorn.stop());
  let count = 0;
  beforeEach(async () => {
    receiver = await startReceiver();
    count += 1;
    slug = `${preset}-${count}`;
    tenant = await openTenant(posthorn, slug, preset);
    return () => receiver.stop();
  });
}
