'use strict';
/**
 * As much of Express as the requirement documents' printed code uses, so that it runs as printed: `app.use`, `app.post`,
 * `express.raw`, `response.status().json()`. It listens on a free port in place of the printed one and tells its parent.
 */
const http = require('node:http');

module.exports = () => {
  const chain = [];
  return {
    use: (handler) => chain.push(handler),
    post: (path, ...handlers) => {
      for (const handler of handlers) {
        chain.push((request, response, next) => {
          if (request.method === 'POST' && request.url === path) handler(request, response, next);
          else next();
        });
      }
    },
    listen: (_printedPort, onListening) => {
      const server = http.createServer((request, response) => {
        response.status = (code) => {
          response.statusCode = code;
          return response;
        };
        response.json = (body) => {
          response.setHeader('content-type', 'application/json; charset=utf-8');
          response.end(JSON.stringify(body));
        };
        const run = (at) => {
          if (at === chain.length) response.status(404).json({ error: 'Not found' });
          else chain[at](request, response, () => run(at + 1));
        };
        run(0);
      });
      server.listen(0, '127.0.0.1', () => {
        process.send?.({ port: server.address().port });
        onListening?.();
      });
    },
  };
};

module.exports.raw = () => readBody((body) => body);
module.exports.json = () => readBody((body) => JSON.parse(body.toString('utf8')));

function readBody(parse) {
  return (request, response, next) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      try {
        request.body = parse(Buffer.concat(chunks));
      } catch {
        response.status(400).json({ error: 'Bad request' });
        return;
      }
      next();
    });
  };
}
