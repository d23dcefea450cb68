/**
 * The other writes while the lag is measured: an open loop to the active node, on sockets of its own.
 *
 * A write that waits for a socket would reach the node later than the plan says, and in step with the
 * answers. There are sockets for a generous response time; what would need more is dropped and counted.
 */

import { connectTargets } from '../load/client.ts';
import { monotonicNs, systemClock } from '../load/clock.ts';
import type { Request, Target } from '../load/exchange.ts';
import { openLoop } from '../load/open-loop.ts';
import { buildPlan } from '../load/plan.ts';
import { tallyBackground, type BackgroundTally } from './lag-figures.ts';

/** A hundred times what a write takes: sockets for whatever arrives in that time. */
const RESPONSE_SECONDS_GENEROUS = 1;
/** At low rates arrivals come in clusters of more than the rate promises. */
const SOCKETS_MIN = 16;
const TIMEOUT_MS = 5_000;
const KEYS = 200;
const VALUE_BYTES = 256;

export type Background = {
  /** Writes to keys of its own at a Poisson rate, until the phase is over and all is answered. */
  write(): Promise<BackgroundTally>;
  close(): Promise<void>;
};

/** As many background writes as may be in flight at `rate` per second. */
export function backgroundSockets(rate: number): number {
  return Math.max(SOCKETS_MIN, Math.ceil(rate * RESPONSE_SECONDS_GENEROUS));
}

/** Opens all sockets, each with a write, so that none connects while something is measured. */
export async function connectBackground(options: {
  readonly active: Target;
  readonly token: string;
  /** Mount of a key-value engine. */
  readonly mount: string;
  /** Writes per second. */
  readonly rate: number;
  readonly durationMs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}): Promise<Background> {
  const { active, rate, durationMs, seed } = options;
  const sockets = backgroundSockets(rate);
  const client = connectTargets({
    targets: [active],
    socketsPerTarget: sockets,
    nowNs: monotonicNs,
    caPem: undefined,
  });
  const headers = ['x-vault-token', options.token, 'content-type', 'application/json'];
  const requestOf = (key: number, row: number): Request => ({
    method: 'POST',
    path: `/v1/${options.mount}/background-${key}`,
    headers,
    body: JSON.stringify({ value: 'x'.repeat(VALUE_BYTES), row }),
  });
  const plan = buildPlan({
    seed,
    schedule: { kind: 'poisson', rate },
    durationMs,
    workload: {
      operations: [{ name: 'write', weight: 1, writes: true }],
      chooseKeys: (random) => ({ next: () => random.below(KEYS) }),
      chooseValueBytes: () => () => VALUE_BYTES,
    },
    routing: { reads: [1], writes: [1] },
  });
  // What fails here fails in the phase, too, and is counted there.
  await Promise.allSettled(
    Array.from({ length: sockets }, (_, row) =>
      client.ask(0, requestOf(row % KEYS, row), TIMEOUT_MS),
    ),
  );
  return {
    write: async () => {
      const result = await openLoop({
        plan,
        targets: [active],
        sender: client,
        clock: systemClock('coarse'),
        requestOf: (index) => requestOf(plan.key[index] ?? 0, index),
        verify: (_index, status) => status === 204,
        inFlightMax: sockets,
        timeoutMs: TIMEOUT_MS,
        signal: options.signal,
      });
      // Rows without an outcome come from an abort only, which leaves nothing to judge.
      options.signal.throwIfAborted();
      return tallyBackground(plan, result);
    },
    close: () => client.close(),
  };
}
