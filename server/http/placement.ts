/**
 * Who answers a request, and when, as far as that is known before the core has looked at it: this
 * node at once, this node when its state is as current as was asked, or the active node.
 */

import { isServerError } from '../errors.ts';
import {
  asksForConsistency,
  readWanted,
  type ConsistencyDefaults,
  type Level,
  type Wanted,
} from './consistency.ts';
import type { Incoming } from './exchange.ts';
import type { Identity, NodeCore, NodePosition } from './node-port.ts';
import type { RequestTarget } from './request-target.ts';
import { isOfState, type Fallback } from './storage-index.ts';

export type PlacementSettings = {
  readonly disableStandbyReads: boolean;
  /** A request without an index header counts as one that must see everything. */
  readonly missingIndexForward: boolean;
  readonly inconsistentFallback: Fallback;
  readonly indexWaitMs: number;
  readonly consistency: ConsistencyDefaults;
  /** How long a read waits to be proved current. */
  readonly readWaitMs: number;
};

export type PlacementParts = {
  readonly core: Pick<NodeCore, 'isSealed' | 'standby'>;
  readonly position: Pick<
    NodePosition,
    'appliedIndex' | 'awaitApplied' | 'linearize' | 'stalenessMs'
  >;
  readonly identity: Pick<Identity, 'stateId'>;
  readonly settings: PlacementSettings;
};

/** `fail`: this node is behind, and the client wants to be told. */
export type Placed =
  | { readonly kind: 'here'; readonly level: Level }
  | { readonly kind: 'forward' }
  | { readonly kind: 'fail' };

/** Added to the configured wait, as OpenBao does: replication takes its time on an idle node. */
const INDEX_WAIT_FLOOR_MS = 25;

/** Executed by the active node even where this one could (OpenBao `handleForwardIfStandby`). */
const ACTIVE_ONLY = new Set([
  'sys/step-down',
  'sys/storage/raft/bootstrap/challenge',
  'sys/storage/raft/bootstrap/answer',
]);

export function isActiveOnly(path: string): boolean {
  return ACTIVE_ONLY.has(path);
}

const READ_METHODS = new Set(['GET', 'HEAD', 'LIST', 'SCAN']);

export function isReadMethod(method: string): boolean {
  return READ_METHODS.has(method);
}

const HERE: Placed = { kind: 'here', level: 'stale' };
const FORWARD: Placed = { kind: 'forward' };
const FAIL: Placed = { kind: 'fail' };

export class Placement {
  readonly #parts: PlacementParts;
  readonly #isAlwaysAsked: boolean;

  constructor(parts: PlacementParts) {
    this.#parts = parts;
    const { disableStandbyReads, missingIndexForward, consistency } = parts.settings;
    this.#isAlwaysAsked =
      disableStandbyReads || missingIndexForward || consistency.level !== 'stale';
  }

  /**
   * `isSystem`: the path begins with `sys/`. Throws `invalid-request`; rejects with `no-leader`,
   * `not-current` or `overloaded` where no node can answer as was asked.
   */
  of(incoming: Incoming, target: RequestTarget, isSystem: boolean): Placed | Promise<Placed> {
    const { core, settings } = this.#parts;
    const isForActive = isSystem && isActiveOnly(target.path);
    if (!asksForConsistency(incoming.head) && !isForActive && !this.#isAlwaysAsked) return HERE;
    const isRead = isReadMethod(incoming.method);
    // Malformed headers are refused everywhere alike, on the active node too.
    const wanted = readWanted(incoming.head, { isRead, defaults: settings.consistency });
    // A repeated request was placed at its first attempt: a refusal now would deny what that did.
    if (core.isSealed() || incoming.stamped?.isRepeated === true) return HERE;
    const isForwardable = !incoming.isForwarded && core.standby();
    if (isForwardable) {
      const isUnspecific = incoming.head.consistency === undefined;
      if (isForActive || this.#isForActive(wanted, isUnspecific)) return FORWARD;
    }
    return this.#whenCurrent(wanted, isForwardable);
  }

  #isForActive({ level, index }: Wanted, isUnspecific: boolean): boolean {
    const { disableStandbyReads, missingIndexForward } = this.#parts.settings;
    if (disableStandbyReads || level === 'leader') return true;
    if (!missingIndexForward || !isUnspecific || this.#isOurs(index)) return false;
    return level === 'stale' || level === 'session';
  }

  #isOurs(index: Wanted['index']): boolean {
    return index !== undefined && isOfState(index, this.#parts.identity.stateId());
  }

  #whenCurrent(wanted: Wanted, isForwardable: boolean): Placed | Promise<Placed> {
    const { level } = wanted;
    switch (level) {
      case 'linearizable':
      case 'leader':
        return this.#whenLinearizable(wanted, isForwardable);
      case 'bounded':
        if (this.#isWithin(wanted.maxStalenessMs)) return this.#whenSeen(wanted, isForwardable);
        return this.#whenBounded(wanted, isForwardable);
      case 'session':
      case 'stale':
        return this.#whenSeen(wanted, isForwardable);
    }
  }

  #isWithin(maxStalenessMs: number): boolean {
    const stalenessMs = this.#parts.position.stalenessMs();
    return stalenessMs !== undefined && stalenessMs <= maxStalenessMs;
  }

  async #whenLinearizable(wanted: Wanted, isForwardable: boolean): Promise<Placed> {
    await this.#parts.position.linearize(this.#parts.settings.readWaitMs);
    return this.#whenSeen(wanted, isForwardable);
  }

  /** What is too old is made new: a read index taken now bounds by nothing. */
  async #whenBounded(wanted: Wanted, isForwardable: boolean): Promise<Placed> {
    const { position, settings } = this.#parts;
    try {
      await position.linearize(settings.readWaitMs);
    } catch (error) {
      if (isServerError(error, 'overloaded')) throw error;
      return this.#behind(wanted, isForwardable);
    }
    return this.#whenSeen(wanted, isForwardable);
  }

  /** OpenBao heeds an index on standbys only. A deposed active node would then serve what it has. */
  #whenSeen(wanted: Wanted, isForwardable: boolean): Placed | Promise<Placed> {
    const { level, index, inconsistent } = wanted;
    const { appliedIndex } = this.#parts.position;
    // The index of another cluster is as good as none (OpenBao http/index.go).
    if (index === undefined || !this.#isOurs(index)) {
      return level === 'session' ? HERE : { kind: 'here', level };
    }
    const here: Placed = { kind: 'here', level };
    if (index.value <= appliedIndex()) return here;
    if (isForwardable && inconsistent?.kind !== 'await-state') {
      return this.#behind(wanted, isForwardable);
    }
    return this.#awaitIndex(index.value, here, () => this.#behind(wanted, isForwardable));
  }

  async #awaitIndex(index: number, here: Placed, behind: () => Placed): Promise<Placed> {
    const { position, settings } = this.#parts;
    const waitMs = settings.indexWaitMs + INDEX_WAIT_FLOOR_MS;
    return (await position.awaitApplied(index, waitMs)) ? here : behind();
  }

  #behind({ inconsistent }: Wanted, isForwardable: boolean): Placed {
    const { inconsistentFallback } = this.#parts.settings;
    const chosen =
      inconsistent?.kind === 'await-state' ? inconsistent.otherwise : inconsistent?.kind;
    return isForwardable && (chosen ?? inconsistentFallback) !== 'fail' ? FORWARD : FAIL;
  }
}
