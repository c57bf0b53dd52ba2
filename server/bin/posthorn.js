#!/usr/bin/env node
// Plain JavaScript for any Node from 18 on: Posthorn itself needs a newer one, which the repository brings along as the
// npm package "node". Started by an older Node, this file runs itself again with that one.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_MAJOR = 26;

if (Number.parseInt(process.versions.node, 10) >= OLDEST_MAJOR) {
  const source = new URL('../src/main.ts', import.meta.url);
  await import(existsSync(source) ? source.href : new URL('../dist/main.js', import.meta.url).href);
} else {
  const node = findPinnedNode();
  if (node === undefined) {
    console.error(
      `posthorn: Node ${OLDEST_MAJOR} or later is needed, this is ${process.versions.node}, and the one that "npm ci" installs beside Posthorn is missing.`,
    );
    process.exitCode = 1;
  } else {
    runAgainWith(node);
  }
}

function findPinnedNode() {
  let manifest;
  try {
    manifest = createRequire(import.meta.url).resolve('node/package.json');
  } catch {
    return undefined;
  }
  const name = process.platform === 'win32' ? 'node.exe' : 'node';
  const binary = path.join(path.dirname(manifest), 'bin', name);
  return existsSync(binary) ? binary : undefined;
}

function runAgainWith(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' });
  // Ctrl-C in a terminal reaches both processes, a signal sent to this one only this one. Posthorn takes signals that
  // come close together for one, so passing on each of them is right in both cases.
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const passOn = (signal) => child.kill(signal);
  for (const signal of signals) process.on(signal, passOn);

  child.on('error', (error) => {
    console.error(`posthorn: ${node} cannot be run: ${error.message}`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    for (const name of signals) process.removeListener(name, passOn);
    process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0);
  });
}
