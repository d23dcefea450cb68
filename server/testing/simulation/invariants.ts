/**
 * The invariants by name, and the count of how often each was evaluated: one that is never
 * evaluated proves nothing.
 */

export const INVARIANTS = {
  I1: 'election safety: one leader in a term, one vote of a server in a term',
  I2: 'a leader never replaces an entry of its log',
  I3: 'log matching: an index and a term name one entry and one predecessor',
  I4: 'leader completeness: a leader holds what earlier terms committed',
  I5: 'state machine safety: all apply the same entries, in order',
  I6: 'what is committed never changes',
  I7: 'committed means durable on a majority, with an entry of the term in which it is committed',
  I8: 'term, vote, commit index, applied index and snapshot index never go back',
  I9: 'snapshot <= applied <= commit <= last, and applied only what is durable here',
  I10: 'no message leaves before what it claims is durable',
  I11: 'one uncommitted configuration at most; the one in force is the one applied',
  I12: 'a leader has the durable votes of a majority of the voters, and of them alone',
  I13: 'what a core holds and calls durable is what storage was given and holds',
  I14: 'a read shows what its consistency level promises',
  I15: 'a leader that no majority answers does not go on leading; nobody else leads in its lease',
  I16: 'progress: match < next, appends within their window and their size',
  I17: 'queues and bytes under way stay below their limits',
  I18: 'a restarted state machine holds an exact prefix of what was committed',
  I19: 'a restarted log holds everything that was reported as durable',
  I20: 'no command takes effect twice',
  I21: 'a snapshot is the state of its index, and never takes a node back',
  I22: 'a healthy cluster elects, agrees, and takes a write',
  I23: 'a term is raised only with the consent of a majority, or by a transfer',
  I24: 'peers understand each other: no frame is refused that a peer has sent',
} as const;

export type InvariantId = keyof typeof INVARIANTS;

export class InvariantViolation extends Error {
  override readonly name = 'InvariantViolation';
  readonly id: InvariantId;

  constructor(id: InvariantId, what: string) {
    super(`${id} (${INVARIANTS[id]}): ${what}`);
    this.id = id;
  }
}

export class Ledger {
  /** By the number of the invariant: a text would be looked up on every check. */
  readonly #counts = new Float64Array(1 + Object.keys(INVARIANTS).length);

  evaluations(): Record<InvariantId, number> {
    const ids = Object.keys(INVARIANTS) as InvariantId[];
    return Object.fromEntries(
      ids.map((id) => [id, this.#counts[numberOf(id)] ?? 0] as const),
    ) as Record<InvariantId, number>;
  }

  /** `what` is a constant: a text that is put together costs more than the check. */
  check(id: InvariantId, holds: boolean, what: string): asserts holds {
    this.count(id);
    if (!holds) throw new InvariantViolation(id, what);
  }

  /** An evaluation that held, or of which `violated` tells. */
  count(id: InvariantId): void {
    const at = numberOf(id);
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  violated(id: InvariantId, what: string): never {
    throw new InvariantViolation(id, what);
  }
}

const ZERO = 0x30;

function numberOf(id: InvariantId): number {
  const first = id.charCodeAt(1) - ZERO;
  return id.length === 2 ? first : 10 * first + id.charCodeAt(2) - ZERO;
}
