import { readFileSync } from 'node:fs';
import type { OpenApiDocument } from '../../src/http/openapi.ts';

interface DocumentedPaths {
  paths: Record<string, Record<string, OpenApiDocument['paths'][string][string] & { description?: string }>>;
}

const DOCUMENT: DocumentedPaths = JSON.parse(readFileSync(new URL('../../../openapi.json', import.meta.url), 'utf8'));

/**
 * Each route of openapi.json, with what it needs. `canonical` is the path whose rows it is about: its own, but for the
 * requirement documents' paths, whose description names it.
 */
export const ROUTES = Object.entries(DOCUMENT.paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]) => ({
    method: method.toUpperCase(),
    path,
    canonical: canonicalPath(operation.description) ?? path,
    route: `${method.toUpperCase()} ${path}`,
    permission: operation['x-permission'],
    portal: operation['x-portal'],
  })),
);

function canonicalPath(description = ''): string | undefined {
  return /^The same as `[A-Z]+ (\S+)`/.exec(description)?.[1];
}

/** Of a route of the requirement documents, the route that it is once more; of any other undefined. */
export function sameAs({ method, path, canonical }: (typeof ROUTES)[number]): string | undefined {
  return canonical === path ? undefined : `${method} ${canonical}`;
}
