/**
 * The node: sealed, standby or active, and the one door for requests.
 *
 *   sealed --unseal--> standby --leadership--> active --lost, step-down--> standby --seal--> sealed
 *
 * Read on: `request-handling.ts` (what a request goes through), `node-life.ts` (init, unseal,
 * join, seal), `ha.ts` and `promotion.ts` (changes of role), `barrier.ts` (the choke point),
 * `invalidation.ts` (why caches are never behind).
 *
 * Invariants:
 * - Nothing is written by a node that is not active: the barrier is read-only until a promotion
 *   opens it between requests, and again from the moment at which leadership is known to be lost.
 * - What is applied is seen: a change reaches every cache before its index is published.
 * - A request that may have written something is never handed on to be executed again.
 * - It knows ports only. Where storage is replicated from, and by what, it cannot tell.
 */

import { ServerError, isServerError, standbyPleaseForwardError } from '../errors.ts';
import type { JoinClaim } from './join.ts';
import type { JoinRequest } from './join-request.ts';
import type { JsonObject, LogicalResponse } from './backend.ts';
import type { CoreOptions, HaState, Leader } from './core-options.ts';
import type { Barrier } from './barrier.ts';
import { RequestLedger } from './exactly-once.ts';
import { NodeLife } from './node-life.ts';
import { handleCancelableRequest, mayWrite } from './request-handling.ts';
import type { LogicalCall } from './request-handling.ts';
import type { SealStatus } from './seal.ts';
import { restoreSnapshot, type RestoreOptions } from './snapshots.ts';
import type { Services } from './services.ts';

export type { CoreOptions, CoreSettings, HaState, Leader } from './core-options.ts';

export class Core {
  readonly #life: NodeLife;
  readonly #ledger: RequestLedger;
  readonly #options: CoreOptions;

  constructor(options: CoreOptions) {
    this.#options = options;
    this.#life = new NodeLife(options);
    this.#ledger = new RequestLedger(this.#life.barrier, options.physical);
  }

  /**
   * Answers as OpenBao's `/v1/<path>` would, without the envelope. Undefined: there is nothing.
   * Throws `standby-please-forward` when the active node must answer; nothing was written then.
   */
  async handleRequest(call: LogicalCall): Promise<LogicalResponse | undefined> {
    const { gate } = this.#life;
    // Again and again: it may close anew before this turn comes. No `await` between here and `enter`.
    while (gate.opened !== undefined) await gate.opened;
    const { services, isStandby } = this.#life.requireUnsealed();
    if (services === undefined) throw forwardOrRefuse(call);

    const writesBefore = this.#life.barrier.writesBegun;
    gate.enter();
    try {
      const { earlyForward, defaultLeaseTtlSeconds } = this.#options.settings;
      const origin = undefined;
      const scene = { services, isStandby, earlyForward, defaultLeaseTtlSeconds, origin };
      // What a standby would refuse may have taken effect where it was asked first.
      if (call.stamped !== undefined && isStandby) throw standbyPleaseForwardError();
      if (call.stamped === undefined) return await handleCancelableRequest(call, scene);
      return await this.#ledger.run(call.stamped, {
        isWrite: mayWrite(call.operation),
        execute: (own) => handleCancelableRequest(call, { ...scene, origin: own }),
      });
    } catch (error) {
      const isReadOnly = isServerError(error, 'read-only');
      if (!isReadOnly && !isServerError(error, 'standby-please-forward')) throw error;
      if (this.#life.isSealed) throw sealedError();
      // Leadership was lost under this request. If any write began since, it may be its own, even
      // if the request came to a standby: a promotion does not wait for ever.
      if (this.#life.barrier.writesBegun !== writesBefore) throw lostError(error);
      throw forwardOrRefuse(call);
    } finally {
      gate.leave();
    }
  }

  /** Throws `sealed` unless requests can be served here; the parts that backends are built on. */
  services(): Services {
    const { services } = this.#life.requireUnsealed();
    if (services === undefined) throw standbyPleaseForwardError();
    return services;
  }

  sealStatus(): SealStatus {
    return this.#life.sealStatus();
  }

  isInitialized(): boolean {
    return this.#life.isInitialized;
  }

  isSealed(): boolean {
    return this.#life.isSealed;
  }

  standby(): boolean {
    return this.haState() !== 'active';
  }

  haState(): HaState {
    if (this.#life.isSealed) return 'sealed';
    if (this.#life.activeTimeMs !== null) return 'active';
    return this.#options.settings.disableStandbyReads ? 'standby' : 'standby-reads';
  }

  /** Undefined: nobody leads as far as this node knows, or whoever does is not active yet. */
  leader(): Leader | undefined {
    return this.#life.isSealed ? undefined : this.#life.leader();
  }

  initialize(config: {
    readonly shares: number;
    readonly threshold: number;
  }): Promise<{ readonly keys: readonly Buffer[]; readonly rootToken: string }> {
    return this.#life.initialize({
      secretShares: config.shares,
      secretThreshold: config.threshold,
    });
  }

  unseal(share: Buffer): Promise<SealStatus> {
    return this.#life.unseal(share);
  }

  resetUnseal(): SealStatus {
    return this.#life.resetUnseal();
  }

  seal(): Promise<void> {
    return this.#life.seal();
  }

  /** Hands leadership over. Throws `standby-please-forward` on a standby. */
  async stepDown(): Promise<void> {
    const { isStandby } = this.#life.requireUnsealed();
    if (isStandby) throw standbyPleaseForwardError();
    await this.#options.leadership.stepDown();
  }

  /** A backup of all that is stored, sealed as it is. Throws `standby-please-forward` on a standby. */
  saveSnapshot(): Promise<AsyncIterable<Uint8Array>> {
    const { isStandby } = this.#life.requireUnsealed();
    if (isStandby) throw standbyPleaseForwardError();
    return this.#options.snapshots.save();
  }

  restoreSnapshot(archive: AsyncIterable<Uint8Array>, options: RestoreOptions): Promise<void> {
    const { snapshots, logger } = this.#options;
    const { isStandby } = this.#life.requireUnsealed();
    if (isStandby) throw standbyPleaseForwardError();
    return restoreSnapshot({ snapshots, barrier: this.#life.barrier, logger }, archive, options);
  }

  requestJoin(request: JoinRequest): Promise<boolean> {
    return this.#life.requestJoin(request);
  }

  /** `{challenge, seal_config}` for a node that wants to join. */
  async bootstrapChallenge(nodeId: string): Promise<JsonObject> {
    return this.#life.bootstrapChallenge(nodeId);
  }

  /** Adds the node if the answer is right; `{credentials}`, sealed for who knows the unseal key. */
  async bootstrapAnswer(claim: JoinClaim & { readonly answer: string }): Promise<JsonObject> {
    return this.#life.bootstrapAnswer(claim);
  }

  /** The barrier's keys, for `sys/key-status`. */
  keyStatus(): ReturnType<Barrier['keyStatus']> {
    this.#life.requireUnsealed();
    return this.#life.barrier.keyStatus();
  }
}

function forwardOrRefuse(call: LogicalCall): ServerError {
  // It was forwarded because this node seemed active: sending it on could go round in circles.
  return call.forwarded
    ? new ServerError('no-leader', 'local node not active but active cluster node not found')
    : standbyPleaseForwardError();
}

function sealedError(): ServerError {
  return new ServerError('sealed', 'Vault is sealed');
}

function lostError(cause: unknown): ServerError {
  return new ServerError(
    'outcome-unknown',
    'leadership was lost while the request was handled: it may or may not have taken effect',
    { cause },
  );
}
