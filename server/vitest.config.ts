import { defineConfig } from 'vitest/config';
import { ClosingLineReporter } from './src/testing/closing-line-reporter.ts';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'bench/**/*.test.ts'],
    globalSetup: ['src/testing/global-setup.ts'],
    reporters: [process.env.CI ? 'dot' : 'default', new ClosingLineReporter()],
    // What a test waits for has a limit of its own (`eventually`); this one only ends what hangs, on a slow machine too.
    testTimeout: 60_000,
    // As long as `eventually` asks; by default it is a second, which work of the background may take.
    expect: { poll: { timeout: 10_000 } },
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
