import { defineConfig } from 'vitest/config';

// Tests run on what `tsc` emitted, the same files that servers and benchmarks run from: worker
// threads and child processes then need no loader.
export default defineConfig({
  test: {
    include: [`${process.env['DIST'] ?? 'dist'}/**/*.test.js`],
    pool: 'forks',
    // Many tests wait for processes or timers: two at a time halve the time on two cores.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
