import { readFileSync } from 'node:fs';
import type { OpenApiDocument } from '../../src/http/openapi.ts';

const DOCUMENT: OpenApiDocument = JSON.parse(readFileSync(new URL('../../../openapi.json', import.meta.url), 'utf8'));

/** Each route of openapi.json, with what it needs. */
export const ROUTES = Object.entries(DOCUMENT.paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]) => ({
    method: method.toUpperCase(),
    path,
    route: `${method.toUpperCase()} ${path}`,
    permission: operation['x-permission'],
    portal: operation['x-portal'],
  })),
);
