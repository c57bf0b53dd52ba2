/** A message of the stream as a browser's EventSource would give it. */
export interface Received {
  /** What a client would resume from, as of this message. */
  lastId: string | undefined;
  /** Whether the message itself had an id. */
  hasId: boolean;
  type: string;
  // A test reads what it expects to be there; a wrong guess fails the test.
  // biome-ignore lint/suspicious/noExplicitAny: the data's shape is what the test is about
  data: any;
}

export interface StreamClient {
  status: number;
  headers: Headers;
  received: Received[];
  /** Comments so far. */
  beats: number;
  /** As of everything that came, also of what is no message. */
  lastId: string | undefined;
  ended: boolean;
  /** Messages of these types (`delivery`, `alert` or a whole name). */
  of(type: string): Received[];
  close(): void;
}

/**
 * Opens a stream and reads it until it ends, as https://html.spec.whatwg.org/#parsing-an-event-stream says. Resolves when it
 * has begun: what happens between the status line and the first message is not sent.
 */
export async function openStream(url: string, headers: Record<string, string>): Promise<StreamClient> {
  const abort = new AbortController();
  const response = await fetch(url, { headers, signal: abort.signal });
  const client: StreamClient = {
    status: response.status,
    headers: response.headers,
    received: [],
    beats: 0,
    lastId: undefined,
    ended: false,
    of: (type) => client.received.filter((message) => message.type === type || message.type.startsWith(`${type}.`)),
    close: () => abort.abort(),
  };
  if (response.status !== 200) {
    await response.body?.cancel();
    client.ended = true;
    return client;
  }
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  void readAll(response, client, begin).catch(() => {});
  await begun;
  return client;
}

async function readAll(response: Response, client: StreamClient, begin: () => void): Promise<void> {
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      rest += decoder.decode(chunk, { stream: true });
      for (let end = rest.indexOf('\n\n'); end !== -1; end = rest.indexOf('\n\n')) {
        dispatch(rest.slice(0, end), client);
        rest = rest.slice(end + 2);
      }
      if (client.received.length > 0) begin();
    }
  } finally {
    client.ended = true;
    begin();
  }
}

function dispatch(block: string, client: StreamClient): void {
  let [type, data, hasId] = ['message', '', false];
  for (const line of block.split('\n')) {
    if (line.startsWith(':')) client.beats += 1;
    if (line.startsWith('event: ')) type = line.slice(7);
    if (line.startsWith('data: ')) data = line.slice(6);
    if (line.startsWith('id: ')) [client.lastId, hasId] = [line.slice(4), true];
  }
  if (data !== '') client.received.push({ lastId: client.lastId, hasId, type, data: JSON.parse(data) });
}
