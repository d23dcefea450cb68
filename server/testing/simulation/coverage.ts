/**
 * What a simulation has seen, added up over seeds: a clean run of seeds in which nothing happened
 * says nothing.
 */

import type { Message } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { INVARIANTS, type InvariantId } from './invariants.ts';

const ROLES = ['follower', 'preCandidate', 'candidate', 'leader'] as const;
const TERMS = ['of an older term', 'of the same term', 'of a newer term'] as const;

export type Coverage = {
  /** Events, elections, simulated time and other plain totals. */
  readonly totals: Record<string, number>;
  /** By kind, for instance `partition: bridge`. */
  readonly counts: Record<string, number>;
  readonly evaluations: Record<string, number>;
  /** By `transitionKey`: role before, message, its term, role after. */
  readonly transitions: Record<string, number>;
};

export function emptyCoverage(): Coverage {
  return { totals: {}, counts: {}, evaluations: {}, transitions: {} };
}

export function addCoverage(sum: Coverage, more: Coverage): void {
  for (const part of ['totals', 'counts', 'evaluations', 'transitions'] as const) {
    for (const [name, count] of Object.entries(more[part])) {
      const isMaximum = name.endsWith('Max');
      const before = sum[part][name] ?? 0;
      sum[part][name] = isMaximum ? Math.max(before, count) : before + count;
    }
  }
}

/** Counts role x message x term relation x role after without building a text for each event. */
export class Transitions {
  readonly #counts = new Map<string, number[]>();

  record(
    before: { readonly role: RaftStatus['role']; readonly currentTerm: number },
    message: Message,
    after: { readonly role: RaftStatus['role'] },
  ): void {
    let row = this.#counts.get(message.kind);
    if (row === undefined) {
      row = Array.from({ length: ROLES.length ** 2 * TERMS.length }, () => 0);
      this.#counts.set(message.kind, row);
    }
    const relation =
      message.term < before.currentTerm ? 0 : message.term === before.currentTerm ? 1 : 2;
    const at =
      (ROLES.indexOf(before.role) * TERMS.length + relation) * ROLES.length +
      ROLES.indexOf(after.role);
    row[at] = (row[at] ?? 0) + 1;
  }

  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const [kind, row] of this.#counts) {
      for (const [at, count] of row.entries()) {
        if (count === 0) continue;
        const after = ROLES[at % ROLES.length];
        const relation = TERMS[Math.floor(at / ROLES.length) % TERMS.length];
        const before = ROLES[Math.floor(at / ROLES.length / TERMS.length)];
        counts[`${before}, ${kind} ${relation}, ${after}`] = count;
      }
    }
    return counts;
  }
}

export function formatCoverage(coverage: Coverage): string {
  const lines = ['totals'];
  for (const [name, count] of Object.entries(coverage.totals)) lines.push(line(name, count));
  lines.push('by kind');
  for (const name of Object.keys(coverage.counts).toSorted()) {
    lines.push(line(name, coverage.counts[name] ?? 0));
  }
  const covered = Object.keys(coverage.transitions).length;
  lines.push(`transitions (role, message, its term, role after): ${covered} covered`);
  lines.push('evaluations of invariants');
  for (const id of Object.keys(INVARIANTS) as InvariantId[]) {
    lines.push(line(`${id} ${INVARIANTS[id]}`, coverage.evaluations[id] ?? 0));
  }
  return lines.join('\n');
}

function line(name: string, count: number): string {
  return `  ${String(Math.round(count)).padStart(12)}  ${name}`;
}
