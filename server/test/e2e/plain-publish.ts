import http from 'node:http';

export interface PlainAnswer {
  status: number;
  headers: http.IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: the body's shape is what the test is about
  body: any;
}

/**
 * Publishes on a connection of its own, so that the request is read straight from its socket: `fetch` uses connections
 * again that the HTTP server has by now.
 */
export function publishPlainly(
  url: string,
  key: string,
  event: unknown,
  options: { headers?: Record<string, string>; agent?: http.Agent } = {},
): Promise<PlainAnswer> {
  const agent = options.agent ?? new http.Agent({ keepAlive: true });
  return new Promise<PlainAnswer>((resolve, reject) => {
    const body = JSON.stringify(event);
    const headers = {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...options.headers,
    };
    const request = http.request(`${url}/api/v1/events`, { method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) }),
      );
    });
    request.on('error', reject);
    request.end(body);
  }).finally(() => {
    if (options.agent === undefined) agent.destroy();
  });
}
