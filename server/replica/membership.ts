/**
 * Who takes part. A server is added as a learner, which counts for nothing, and made a voter when
 * it has caught up: a majority never depends on a log that is not there (thesis §4.2.1).
 *
 * That a learner is to stay one must outlive the leader that was told so, hence it is written to
 * the replicated store, under a key that holds nothing secret.
 */

import type { PhysicalStore } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import type { Configuration, NodeId, Server } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import type { ConfigureInput, RefusedConfiguration } from './driver-input.ts';
import { noLeaderError } from './proposals.ts';
import type { ReplicaSettings } from './settings.ts';
import type { ReplicaLogger } from './transport.ts';

export type MembershipOptions = {
  readonly nodeId: NodeId;
  readonly physical: PhysicalStore;
  readonly logger: ReplicaLogger;
  readonly settings: Pick<ReplicaSettings, 'heartbeatMs' | 'electionTimeoutMs'>;
  /** Undefined while this node takes no part. */
  status(): RaftStatus | undefined;
  configure(input: ConfigureInput): void;
};

/** A learner so close can be caught up within one append. */
const PROMOTION_LAG_ENTRIES_MAX = 100;
/** For another change, or the first entry of a term, to be applied. */
const CHANGE_TIMEOUT_MS = 10_000;
const RETRY_MS = 50;
const NON_VOTER_PREFIX = 'core/raft/non-voter/';

export class Membership {
  readonly #options: MembershipOptions;
  /** Changes go one after the other; the last one under way. Never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #isPromoting = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  async addServer(server: {
    readonly id: NodeId;
    readonly address: string;
    readonly nonVoter?: boolean | undefined;
  }): Promise<void> {
    const { id, address } = server;
    const status = this.#options.status();
    if (status?.role !== 'leader') throw noLeaderError();
    const known = status.configuration.servers.find((each) => each.id === id);
    if (known !== undefined && known.address !== address && !(await this.#isSilent(id))) {
      throw new ServerError('conflict', `node id ${id} is in use by ${known.address}`);
    }
    if (id === status.id) return;
    await this.#markNonVoter(id, server.nonVoter === true);
    // Only a node without data asks to be added. If it was a member before, what it had promised
    // and acknowledged is gone: it must count for nothing until it has caught up again.
    if (known !== undefined) await this.#change((inForce) => without(inForce, id));
    await this.#change((inForce) => withServer(inForce, { id, address, suffrage: 'learner' }));
    this.#options.logger.info({ peer: id, address }, 'server added');
  }

  async removeServer(id: NodeId): Promise<void> {
    await this.#change((inForce) => without(inForce, id));
    if (id !== this.#options.nodeId) await this.#markNonVoter(id, false);
    this.#options.logger.info({ peer: id }, 'server removed');
  }

  /** Called after each turn of a leader: promotes the learner that is ready for it. */
  observe(status: RaftStatus): void {
    if (this.#isPromoting || status.role !== 'leader') return;
    const ready = status.configuration.servers.find((server) => this.#isReady(server, status));
    if (ready === undefined) return;
    this.#isPromoting = true;
    void this.#promote(ready);
  }

  #isReady({ id, suffrage }: Server, { progress, lastIndex }: RaftStatus): boolean {
    if (suffrage !== 'learner') return false;
    const peer = progress.get(id);
    if (peer?.kind !== 'replicate' || !peer.recentActive) return false;
    if (lastIndex - peer.matchIndex > PROMOTION_LAG_ENTRIES_MAX) return false;
    return this.#options.physical.get(NON_VOTER_PREFIX + id) === undefined;
  }

  /** Never rejects: what fails is tried again after a later turn. */
  async #promote({ id, address }: Server): Promise<void> {
    const { logger } = this.#options;
    try {
      await this.#change((inForce) => {
        const isLearner = inForce.servers.some(
          (server) => server.id === id && server.suffrage === 'learner',
        );
        return isLearner ? withServer(inForce, { id, address, suffrage: 'voter' }) : undefined;
      });
      logger.info({ peer: id }, 'server promoted');
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      logger.warn({ peer: id, reason: error.message }, 'server not promoted');
    } finally {
      this.#isPromoting = false;
    }
  }

  /** A node that has just gone still counts as active for up to an election timeout. */
  async #isSilent(id: NodeId): Promise<boolean> {
    const { nodeId, physical, settings, status } = this.#options;
    if (id === nodeId) return false;
    // Activity is also forgotten for a moment whenever the leader starts to count anew.
    const quietMs = 3 * settings.heartbeatMs;
    const deadlineMs = performance.now() + 2 * settings.electionTimeoutMs;
    let activeMs = performance.now();
    while (performance.now() < deadlineMs) {
      const nowMs = performance.now();
      const progress = status()?.progress;
      if (progress === undefined || progress.get(id)?.recentActive === true) activeMs = nowMs;
      if (quietMs <= nowMs - activeMs) return true;
      await physical.awaitApplied(physical.appliedIndex() + 1, RETRY_MS);
    }
    return false;
  }

  async #markNonVoter(id: NodeId, isNonVoter: boolean): Promise<void> {
    const { physical } = this.#options;
    const key = NON_VOTER_PREFIX + id;
    if ((physical.get(key) !== undefined) === isNonVoter) return;
    const value = new Uint8Array(0);
    await physical.write([isNonVoter ? { kind: 'put', key, value } : { kind: 'delete', key }]);
  }

  #change(edit: (inForce: Configuration) => Configuration | undefined): Promise<void> {
    const change = this.#last.then(() => this.#changeNow(edit));
    this.#last = change.catch(() => undefined);
    return change;
  }

  async #changeNow(edit: (inForce: Configuration) => Configuration | undefined): Promise<void> {
    const { physical } = this.#options;
    const deadlineMs = performance.now() + CHANGE_TIMEOUT_MS;
    for (;;) {
      const result = await this.#propose(edit);
      switch (result.kind) {
        case 'applied':
        case 'unchanged':
          return;
        case 'notLeader':
          throw noLeaderError();
        case 'refused':
          throw new ServerError('conflict', `membership change refused: ${result.reason}`);
        case 'pending':
          if (deadlineMs < performance.now()) {
            throw new ServerError('conflict', 'another membership change is under way');
          }
          await physical.awaitApplied(physical.appliedIndex() + 1, RETRY_MS);
      }
    }
  }

  #propose(
    edit: (inForce: Configuration) => Configuration | undefined,
  ): Promise<RefusedConfiguration | { readonly kind: 'applied' }> {
    return new Promise((resolve, reject) => {
      // A standby may be behind: whether anything is to be changed is the leader's to say.
      if (this.#options.status()?.role !== 'leader') {
        reject(noLeaderError());
        return;
      }
      const command = new Uint8Array(0);
      const proposal = { command, reject, resolve: () => resolve({ kind: 'applied' }) };
      this.#options.configure({ kind: 'configure', edit, proposal, refused: resolve });
    });
  }
}

function withServer({ servers }: Configuration, server: Server): Configuration {
  const isKnown = servers.some((each) => each.id === server.id);
  return {
    servers: isKnown
      ? servers.map((each) => (each.id === server.id ? server : each))
      : [...servers, server],
  };
}

function without({ servers }: Configuration, id: NodeId): Configuration | undefined {
  const rest = servers.filter((each) => each.id !== id);
  return rest.length === servers.length ? undefined : { servers: rest };
}
