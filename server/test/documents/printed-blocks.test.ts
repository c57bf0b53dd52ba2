import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { printed } from './printed-code.ts';

/** The documents lie beside the repository where they are there at all. */
const DOCUMENTS = new URL('../../../../shared/requirements/', import.meta.url);

/** Languages of what can be run. */
const CODE = ['bash', 'javascript', 'python'];

/** The code blocks of each document in their order: the copy that the tests run, or why there is none. */
const BLOCKS: Record<string, ({ copy: string } | { none: string })[]> = {
  'call-center': [
    { copy: 'call-center.verify.py' },
    { copy: 'call-center.jwt.py' },
    { copy: 'call-center.crm.py' },
    { copy: 'call-center.slack.py' },
    { copy: 'call-center.analytics.py' },
    { none: 'starts the program that the document describes; README.md has the commands that start this one' },
    { copy: 'call-center.testing.sh' },
  ],
  'isp-communications': [
    { copy: 'isp-communications.verify.py' },
    { copy: 'isp-communications.register.sh' },
    { copy: 'isp-communications.service.sh' },
    { copy: 'isp-communications.receiver.js' },
  ],
  'isp-framework': [{ copy: 'isp-framework.manual.sh' }],
  'support-autoresponder': [
    { copy: 'support-autoresponder.send.js' },
    { copy: 'support-autoresponder.receiver.js' },
    { copy: 'support-autoresponder.verify.py' },
    { copy: 'support-autoresponder.incoming.sh' },
  ],
  'whatsapp-crm': [
    { none: 'runs the migrations of the system that the document describes; posthorn migrate runs those of this one' },
    { none: 'runs a script that the document does not print; scripts.test.ts runs one that does what it says' },
  ],
};

describe.runIf(existsSync(DOCUMENTS))('the code that the tests run', () => {
  test.each(Object.entries(BLOCKS))('is what %s.md prints, and none is left out', (name, expected) => {
    const text = readFileSync(new URL(`${name}.md`, DOCUMENTS), 'utf8');
    const blocks = [...text.matchAll(/^ *```(\w*)\n(.*?)^ *```/gms)].flatMap(([, language = '', code = '']) =>
      CODE.includes(language) ? [code] : [],
    );
    expect(blocks).toHaveLength(expected.length);
    for (const [at, each] of expected.entries()) {
      if ('copy' in each) expect(printed(each.copy), each.copy).toBe(blocks[at]);
    }
  });
});
