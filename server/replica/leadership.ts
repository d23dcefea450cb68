/** Turns what the raft core says of itself, turn by turn, into terms of leadership to wait for. */

import type { Tenure } from '../core/ports.ts';
import type { RaftStatus } from '../raft/raft.ts';

type CurrentTenure = { readonly tenure: Tenure; readonly end: () => void };

/**
 * Invariants:
 * - There is a tenure exactly while this node leads and has applied an entry of its own term:
 *   everything that earlier terms committed lies before that entry (Raft §8).
 * - A tenure ends before another begins.
 */
export class TenureWatch {
  #current: CurrentTenure | undefined;
  #leaderId: string | undefined;
  readonly #waiters = new Set<(tenure: Tenure) => void>();

  leaderId(): string | undefined {
    return this.#leaderId;
  }

  current(): Tenure | undefined {
    return this.#current?.tenure;
  }

  /** `appliedTerm` is the term of the last entry applied here. */
  observe({ role, leaderId, currentTerm }: RaftStatus, appliedTerm: number): void {
    this.#leaderId = leaderId ?? undefined;
    if (this.#current !== undefined) {
      if (role === 'leader' && this.#current.tenure.term === currentTerm) return;
      this.end();
    }
    if (role !== 'leader' || appliedTerm !== currentTerm) return;
    let end: () => void = () => undefined;
    const lost = new Promise<void>((resolve) => (end = resolve));
    const tenure = { term: currentTerm, lost };
    this.#current = { tenure, end };
    for (const resolve of this.#waiters) resolve(tenure);
    this.#waiters.clear();
  }

  /** Ends the tenure, if there is one; nobody is known to lead. */
  end(): void {
    this.#current?.end();
    this.#current = undefined;
  }

  reset(): void {
    this.end();
    this.#leaderId = undefined;
  }

  acquire(signal: AbortSignal): Promise<Tenure> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#current !== undefined) return Promise.resolve(this.#current.tenure);
    return new Promise((resolve, reject) => {
      const onTenure = (tenure: Tenure): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(tenure);
      };
      const onAbort = (): void => {
        this.#waiters.delete(onTenure);
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(onTenure);
    });
  }
}
