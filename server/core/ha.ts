/**
 * The life of an unsealed node: standby, active when it leads, standby again, until it is sealed
 * (OpenBao internal/vault/ha.go). Everything waits for events; the only timer spaces out retries
 * of a promotion that failed while leadership was kept.
 *
 *   runStandby -> waitForLeadership (acquireLock) -> becomeActive -> lost -> becomeStandby -+
 *                        ^                                                                  |
 *                        +------------------------------------------------------------------+
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from './logger.ts';
import type { Leadership, Tenure } from './ports.ts';

export type HaSteps = {
  /** Resolves when the node serves as the active one, or rejects with why it cannot. */
  becomeActive(tenure: Tenure): Promise<void>;
  /** Never writes. Called after every tenure, also one that never became active. */
  becomeStandby(): Promise<void>;
};

const RETRY_MS = 1000;

/** Runs until `signal` aborts. The node is a standby when it begins, and when it ends. */
export async function runStandby(
  steps: HaSteps,
  leadership: Leadership,
  options: { readonly signal: AbortSignal; readonly logger: Logger },
): Promise<void> {
  const { signal, logger } = options;
  while (!signal.aborted) {
    const tenure = await waitForLeadership(leadership, signal);
    if (tenure === undefined) return;
    let isActive = false;
    try {
      await steps.becomeActive(tenure);
      isActive = true;
    } catch (error) {
      logger.error({ error, term: tenure.term }, 'promotion failed');
    }
    if (isActive) await ended(tenure, signal);
    await steps.becomeStandby();
    if (!isActive) await giveUpLeadership(leadership, tenure, signal);
  }
}

/** The lock is Raft's leadership: nothing to contend for, only to be told. */
async function waitForLeadership(
  leadership: Leadership,
  signal: AbortSignal,
): Promise<Tenure | undefined> {
  try {
    return await leadership.acquire(signal);
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

async function giveUpLeadership(
  leadership: Leadership,
  tenure: Tenure,
  signal: AbortSignal,
): Promise<void> {
  const retried = delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
  // A cluster of one has nobody to hand over to: then it tries again by itself.
  await leadership.stepDown().catch(() => undefined);
  await Promise.race([tenure.lost, retried]);
}

function ended(tenure: Tenure, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      signal.removeEventListener('abort', finish);
      resolve();
    };
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', finish);
    void tenure.lost.then(finish);
  });
}
