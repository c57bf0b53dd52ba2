import dgram from 'node:dgram';
import type { LookupAddress } from 'node:dns';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { openHostsFile } from './hosts-file.ts';
import { createNameLookup } from './name-lookup.ts';

/** Types and answer codes of RFC 1035 and RFC 3596. */
const A = 1;
const AAAA = 28;
const SERVFAIL = 2;
const NXDOMAIN = 3;

type Record = { code?: number; addresses?: number[][] } | 'silence';

/** A name server that answers a question with `answers(name, type)`. */
async function startNameServer(answers: (name: string, type: number) => Record) {
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 4_000_000 });
  const questions: string[] = [];
  socket.on('message', (query, from) => {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.subarray(at + 1, at + 1 + length).toString('latin1'));
      at += 1 + length;
    }
    const type = query.readUInt16BE(at + 1);
    const name = labels.join('.').toLowerCase();
    questions.push(name);
    const answer = answers(name, type);
    if (answer === 'silence') return;
    const addresses = answer.addresses ?? [];
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | (answer.code ?? 0), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(addresses.length, 6);
    const records = addresses.map((bytes) =>
      Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, bytes.length, ...bytes]),
    );
    socket.send(Buffer.concat([head, query.subarray(12, at + 5), ...records]), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { address: `127.0.0.1:${socket.address().port}`, questions, close: () => socket.close() };
}

describe('the lookup of names', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'posthorn-hosts-'));
  const hostsFile = path.join(directory, 'hosts');
  let server: Awaited<ReturnType<typeof startNameServer>>;

  beforeAll(async () => {
    await writeFile(hostsFile, '127.0.0.1 localhost # mine.test\n\n::1\n10.0.0.1\tDev.Test  other.test\n');
    server = await startNameServer((name, type) => {
      if (name.endsWith('.silent.test')) return 'silence';
      if (name === 'broken.test') return { code: SERVFAIL };
      if (name === 'none.test') return { code: NXDOMAIN };
      if (name === 'half.test') return type === A ? { code: SERVFAIL } : {};
      if (name === 'four.test') return type === A ? { addresses: [[192, 0, 2, 1]] } : { code: SERVFAIL };
      if (type === AAAA) return { addresses: [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]] };
      return {
        addresses: [
          [192, 0, 2, 1],
          [192, 0, 2, 2],
        ],
      };
    });
  });
  afterAll(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });

  const look = (host: string, isOperators = (_host: string) => false): Promise<string> => {
    const hosts = openHostsFile(systemClock, hostsFile);
    const lookup = createNameLookup({ isOperators, hosts, servers: [server.address] });
    return new Promise((settle) => {
      lookup(host, { all: true }, (error: NodeJS.ErrnoException | null, found: LookupAddress[]) =>
        settle(
          error === null ? found.map(({ address, family }) => `${family} ${address}`).join(', ') : `${error.code}`,
        ),
      );
    });
  };

  it('asks name servers for both families, and puts IPv4 first', async () => {
    expect(await look('both.test')).toBe('4 192.0.2.1, 4 192.0.2.2, 6 2001:db8::1');
    expect(await look('four.test')).toBe('4 192.0.2.1');
  });

  it('tells a name that is not there from one that nobody could tell', async () => {
    expect(await look('none.test')).toBe('ENOTFOUND');
    expect(await look('broken.test')).toBe('ESERVFAIL');
    expect(await look('half.test')).toBe('ESERVFAIL');
  });

  it('asks the system for localhost, for names in the hosts file and for those of the operator', async () => {
    expect(await look('localhost')).toContain('127.0.0.1');
    const before = server.questions.length;
    // The machine's own hosts file does not have them, so the system answers that there are none.
    for (const host of ['dev.test', 'other.test', 'single']) expect(await look(host)).not.toContain('192.0.2.1');
    expect(await look('operators.test', (host) => host === 'operators.test')).not.toContain('192.0.2.1');
    expect(server.questions).toHaveLength(before);
    expect(await look('mine.test')).toContain('192.0.2.1');
  });

  it('falls back to the system where no name server listens', async () => {
    const nobody = await startNameServer(() => 'silence');
    nobody.close();
    const lookup = createNameLookup({
      isOperators: () => false,
      hosts: openHostsFile(systemClock, hostsFile),
      servers: [nobody.address],
    });
    const code = await new Promise((settle) => {
      lookup('a.invalid', { all: true }, (error: NodeJS.ErrnoException | null) => settle(error?.code));
    });
    expect(code).not.toBe('ECONNREFUSED');
  });

  it('answers while hundreds of other names get no answer', async () => {
    const hosts = openHostsFile(systemClock, hostsFile);
    const lookup = createNameLookup({ isOperators: () => false, hosts, servers: [server.address] });
    let unanswered = 300;
    for (let n = 0; n < 300; n += 1) {
      lookup(`n${n}.silent.test`, { all: true }, () => {
        unanswered -= 1;
      });
    }
    await new Promise<void>((settle) => {
      lookup('quick.test', { all: true }, () => settle());
    });
    expect(unanswered).toBe(300);
  });
});

describe('the hosts file', () => {
  it('is read again after ten seconds, and names nobody when it is not there', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'posthorn-hosts-'));
    const file = path.join(directory, 'hosts');
    const clock = new ManualClock();
    const hosts = openHostsFile(clock, file);
    const names = (host: string): Promise<boolean> => new Promise((settle) => hosts.names(host, settle));
    expect(await names('a.test')).toBe(false);
    await writeFile(file, '10.0.0.1 a.test');
    expect(await names('a.test')).toBe(false);
    clock.advance(10_000);
    expect(await Promise.all([names('A.Test.'), names('b.test')])).toEqual([true, false]);
    await rm(directory, { recursive: true });
  });
});
