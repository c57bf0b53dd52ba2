import { expect, test } from 'vitest';
import { createMessageReader, type HttpMessage } from './http-messages.ts';
import { dataAround, PublishRequest, readMarker, SEQUENCE_DIGITS } from './publish-request.ts';

const OPTIONS = {
  port: 7678,
  path: '/api/v1/events',
  eventType: 'bench.test',
  headers: { 'X-Tenant-Id': 'bench' },
  turns: 1,
};

function sent(request: PublishRequest): HttpMessage {
  const messages: HttpMessage[] = [];
  createMessageReader((message) => messages.push(message))(request.bytes);
  expect(messages).toHaveLength(1);
  return messages[0] as HttpMessage;
}

test('a single publish carries 300 bytes of data and the marker', () => {
  const request = new PublishRequest({ ...OPTIONS, batchSize: 1 });
  const marker = { run: 7, sequence: 12_345_678, sentUs: 1_234_567_890_123_456 };
  request.stamp(marker);
  const { head, body } = sent(request);
  expect(head).toContain('POST /api/v1/events HTTP/1.1\r\n');
  expect(head).toContain('\r\nX-Tenant-Id: bench');
  const event = JSON.parse(body.toString());
  expect(event.event_type).toBe('bench.test');
  expect(JSON.stringify(event.data)).toHaveLength(300);
  expect(readMarker(body)).toEqual(marker);
});

test('the events of a batch are numbered on, also after the next stamp', () => {
  const request = new PublishRequest({ ...OPTIONS, batchSize: 3 });
  request.stamp({ run: 9999, sequence: 99_999_990, sentUs: 5 });
  request.stamp({ run: 2, sequence: 8, sentUs: 1_000_000 });
  const { events } = JSON.parse(sent(request).body.toString()) as { events: { data: unknown }[] };
  expect(events.map(({ data }) => readMarker(Buffer.from(JSON.stringify({ type: 'x', data }))))).toEqual(
    [8, 9, 10].map((sequence) => ({ run: 2, sequence, sentUs: 1_000_000 })),
  );
});

test('events take turns where type and headers name them', () => {
  const many = { eventType: 'bench.#####', headers: { 'X-Tenant-Id': 'bench-#####' }, turns: 300 };
  const request = new PublishRequest({ ...OPTIONS, ...many, batchSize: 1 });
  for (const [sequence, turn] of [
    [299, '00299'],
    [300, '00000'],
  ] as const) {
    request.stamp({ run: 1, sequence, sentUs: 5 });
    const { head, body } = sent(request);
    expect(head).toContain(`\r\nX-Tenant-Id: bench-${turn}`);
    expect(JSON.parse(body.toString()).event_type).toBe(`bench.${turn}`);
    expect(readMarker(body)).toEqual({ run: 1, sequence, sentUs: 5 });
  }
});

test('data written without a request has the same size and its marker', () => {
  const { before, after } = dataAround(42);
  const data = before + String(17).padStart(SEQUENCE_DIGITS, '0') + after;
  expect(JSON.stringify(JSON.parse(data))).toHaveLength(300);
  expect(readMarker(Buffer.from(data))).toEqual({ run: 42, sequence: 17, sentUs: 0 });
});

test('a body without a whole marker has none', () => {
  for (const body of [
    '',
    '{}',
    '{"bench":"',
    '{"bench":"0001-00000002"}',
    '{"bench":"0001-0000000x-0000000000000005"}',
  ]) {
    expect(readMarker(Buffer.from(body))).toBeUndefined();
  }
});
