/**
 * A fault for tests that say `introspection`: SIGUSR2 keeps this thread busy, as a large request or
 * a long garbage collection would, and nothing else in it runs meanwhile.
 */

export const BLOCK_MS = 400;

export function blockOnSignal(): void {
  process.on('SIGUSR2', () => {
    const endMs = performance.now() + BLOCK_MS;
    while (performance.now() < endMs);
  });
}
