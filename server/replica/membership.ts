/**
 * Who takes part. A server is added as a learner, which counts for nothing, and made a voter when
 * it is healthy and has caught up: a majority never depends on a log that is not there (thesis
 * §4.2.1). The leader does that by itself, and if told so removes servers that are dead
 * (`autopilot.ts` judges, this file acts). Changes that are due together are one joint change.
 *
 * Whose id returns: a node asks to be added only if its disk is empty. If its id is a member, what
 * that had promised and acknowledged is gone with the disk, or put aside with it. To consensus the
 * two disks are two servers: the old one is removed first, and only when that is committed, the new
 * one is added as a learner. `callers.ts` sees to it that neither is ever taken for the other.
 *
 * What is to outlive the leader that was told so (that a learner is to stay one, the settings) is
 * written to the replicated store, under keys that hold nothing secret.
 */

import type { AutopilotConfiguration, AutopilotState, PhysicalStore } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import type { Configuration, NodeId, Server } from '../raft/message.ts';
import { Quorum } from '../raft/quorum.ts';
import type { RaftStatus } from '../raft/raft.ts';
import { findDemotions, findPromotions, findRemovals, HealthWatch } from './autopilot.ts';
import type { Observation } from './autopilot.ts';
import type { Clock } from './clock.ts';
import type { ConfigureInput, RefusedConfiguration } from './driver-input.ts';
import { noLeaderError } from './proposals.ts';
import type { ReplicaSettings } from './settings.ts';
import type { ReplicaLogger } from './transport.ts';

export type MembershipOptions = {
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly physical: PhysicalStore;
  readonly logger: ReplicaLogger;
  readonly settings: Pick<ReplicaSettings, 'heartbeatMs' | 'electionTimeoutMs' | 'autopilot'>;
  /** Undefined while this node takes no part. */
  status(): RaftStatus | undefined;
  configure(input: ConfigureInput): void;
};

type Edit = (inForce: Configuration) => Configuration | undefined;

/** For another change, or the first entry of a term, to be applied. */
const CHANGE_TIMEOUT_MS = 10_000;
const RETRY_MS = 50;
/** Of one change; each that fails is somebody else's that took effect. */
const AUTOPILOT_ATTEMPTS_MAX = 32;
/** How often the leader looks at its servers. */
const AUTOPILOT_INTERVAL_MS = 200;
const AUTOPILOT_KEY = 'core/raft/autopilot';

/** Followed by the id of a server that is to stay without a vote. */
export const NON_VOTER_PREFIX = 'core/raft/non-voter/';

export class Membership {
  readonly #options: MembershipOptions;
  /** Changes go one after the other; the last one under way. Never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #watch: HealthWatch | undefined;
  #state: AutopilotState | undefined;
  #observedMs = 0;
  #isReconciling = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  async addServer(server: {
    readonly id: NodeId;
    readonly address: string;
    readonly instance?: string | undefined;
    readonly nonVoter?: boolean | undefined;
  }): Promise<void> {
    const { id, address, instance } = server;
    const status = this.#leaderStatus();
    const known = status.configuration.servers.find((each) => each.id === id);
    if (known !== undefined && known.address !== address && !(await this.#isSilent(id))) {
      throw new ServerError('conflict', `node id ${id} is in use by ${known.address}`);
    }
    if (id === status.id) {
      if (known?.instance === instance) return;
      throw new ServerError('conflict', `node id ${id} is in use by the active node`);
    }
    await this.#markNonVoter(id, server.nonVoter === true);
    if (known !== undefined) await this.#change((inForce) => without(inForce, [id]));
    await this.#change((inForce) => {
      // Nobody else can be there: the newcomer has the address.
      const ghosts = inForce.servers.filter((each) => each.address === address && each.id !== id);
      refuseTooMany(inForce, ghosts);
      const rest = without(inForce, idsOf(ghosts)) ?? inForce;
      const learner = { id, address, suffrage: 'learner' } as const;
      return withServer(rest, instance === undefined ? learner : { ...learner, instance });
    });
    this.#options.logger.info({ peer: id, address, instance }, 'server added');
  }

  async removeServer(id: NodeId): Promise<void> {
    const { servers } = this.#leaderStatus().configuration;
    if (!servers.some((each) => each.id === id)) return;
    await this.#change((inForce) => refuseWithoutVoters(without(inForce, [id])));
    await this.#settle();
    if (id !== this.#options.nodeId) await this.#markNonVoter(id, false);
    this.#options.logger.info({ peer: id }, 'server removed');
  }

  /** Takes the mark away; the vote follows as for a server that has just been added. */
  async promoteServer(id: NodeId): Promise<void> {
    this.#requireMember(id);
    if (!this.#isNonVoter(id)) throw new ServerError('refused', 'server is not a non-voter');
    await this.#markNonVoter(id, false);
  }

  async demoteServer(id: NodeId): Promise<void> {
    this.#requireMember(id);
    if (this.#isNonVoter(id)) throw new ServerError('refused', 'server is already a non-voter');
    refuseWithoutVoters(withSuffrage(this.#leaderStatus().configuration, [id], 'learner'));
    await this.#markNonVoter(id, true);
    await this.#change((inForce) => refuseWithoutVoters(withSuffrage(inForce, [id], 'learner')));
    await this.#settle();
    this.#options.logger.info({ peer: id }, 'server demoted');
  }

  autopilotState(): AutopilotState | undefined {
    return this.#state;
  }

  autopilotConfiguration(): AutopilotConfiguration {
    return { ...this.#options.settings.autopilot, ...this.#storedAutopilot() };
  }

  /** Of changes that are made side by side, none undoes what another one names. */
  async setAutopilotConfiguration(change: Partial<AutopilotConfiguration>): Promise<void> {
    const { physical } = this.#options;
    const key = AUTOPILOT_KEY;
    for (let attempt = 0; attempt < AUTOPILOT_ATTEMPTS_MAX; attempt += 1) {
      const text = JSON.stringify({ ...this.#storedAutopilot(), ...change });
      const reads = [{ key, value: physical.get(key) }];
      const operations = [{ kind: 'put' as const, key, value: new TextEncoder().encode(text) }];
      const outcome = await physical.commit({ reads, lists: [], operations });
      if (outcome.kind !== 'conflict') return;
    }
    throw new ServerError('conflict', 'the configuration of autopilot is being changed by others');
  }

  /** Called after each turn. */
  observe(raft: RaftStatus): void {
    if (raft.role !== 'leader') {
      this.#watch = undefined;
      this.#state = undefined;
      return;
    }
    const nowMs = this.#options.clock.nowMs();
    if (this.#watch?.term === raft.currentTerm && nowMs - this.#observedMs < AUTOPILOT_INTERVAL_MS)
      return;
    this.#observedMs = nowMs;
    const configuration = this.autopilotConfiguration();
    const isNonVoter = (id: NodeId): boolean => this.#isNonVoter(id);
    const observation: Observation = { nowMs, raft, configuration, isNonVoter };
    if (this.#watch?.term !== raft.currentTerm) this.#watch = new HealthWatch(observation);
    this.#state = this.#watch.observe(observation);
    if (!this.#isReconciling) this.#reconcile(this.#state, observation, this.#watch);
  }

  #reconcile(state: AutopilotState, observation: Observation, watch: HealthWatch): void {
    const { configuration } = observation;
    const promoted = findPromotions(state, observation, watch.stabilizationMs(observation));
    const demoted = findDemotions(state);
    const removed = findRemovals(state, configuration);
    if (promoted.length + demoted.length + removed.length === 0) return;
    this.#isReconciling = true;
    void this.#tend({ promoted, demoted, removed });
  }

  /** Never rejects: what fails is tried again after a later look. */
  async #tend(changes: {
    readonly promoted: readonly NodeId[];
    readonly demoted: readonly NodeId[];
    readonly removed: readonly NodeId[];
  }): Promise<void> {
    const { logger } = this.#options;
    const { promoted, demoted, removed } = changes;
    try {
      await this.#change((inForce) => {
        // What an operator asked for in the meantime stands.
        const wanted = promoted.filter((id) => !this.#isNonVoter(id));
        const unwanted = demoted.filter((id) => this.#isNonVoter(id));
        const voting = withSuffrage(inForce, wanted, 'voter') ?? inForce;
        const voters = withSuffrage(voting, unwanted, 'learner') ?? voting;
        const next = without(voters, removed) ?? voters;
        return next === inForce ? undefined : next;
      });
      for (const id of removed) await this.#markNonVoter(id, false);
      logger.info(changes, 'servers tended');
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      logger.warn({ ...changes, reason: error.message }, 'servers not tended');
    } finally {
      this.#isReconciling = false;
    }
  }

  #leaderStatus(): RaftStatus {
    const status = this.#options.status();
    if (status?.role !== 'leader') throw noLeaderError();
    return status;
  }

  #requireMember(id: NodeId): void {
    const { servers } = this.#leaderStatus().configuration;
    if (servers.some((each) => each.id === id)) return;
    throw new ServerError('refused', `server ${id} not found in raft configuration`);
  }

  /** A node that has just gone still counts as active for up to an election timeout. */
  async #isSilent(id: NodeId): Promise<boolean> {
    const { nodeId, clock, settings, status } = this.#options;
    if (id === nodeId) return false;
    // Activity is also forgotten for a moment whenever the leader starts to count anew.
    const quietMs = 3 * settings.heartbeatMs;
    const deadlineMs = clock.nowMs() + 2 * settings.electionTimeoutMs;
    let activeMs = clock.nowMs();
    while (clock.nowMs() < deadlineMs) {
      const nowMs = clock.nowMs();
      const progress = status()?.progress;
      if (progress === undefined || progress.get(id)?.recentActive === true) activeMs = nowMs;
      if (quietMs <= nowMs - activeMs) return true;
      await this.#pause();
    }
    return false;
  }

  /** Until something is applied, for a moment at most. */
  async #pause(): Promise<void> {
    const { clock, physical } = this.#options;
    await physical.awaitApplied(physical.appliedIndex() + 1, RETRY_MS);
    // Where too many wait already that is no wait at all, and others must get their turn.
    await new Promise<void>((resolve) => clock.nextTurn(resolve));
  }

  #isNonVoter(id: NodeId): boolean {
    return this.#options.physical.get(NON_VOTER_PREFIX + id) !== undefined;
  }

  async #markNonVoter(id: NodeId, isNonVoter: boolean): Promise<void> {
    const { physical } = this.#options;
    const key = NON_VOTER_PREFIX + id;
    if (this.#isNonVoter(id) === isNonVoter) return;
    const value = new Uint8Array(0);
    await physical.write([isNonVoter ? { kind: 'put', key, value } : { kind: 'delete', key }]);
  }

  /** What operators have set, and nothing else. */
  #storedAutopilot(): Partial<AutopilotConfiguration> {
    const stored = this.#options.physical.get(AUTOPILOT_KEY);
    if (stored === undefined) return {};
    const parsed: Partial<AutopilotConfiguration> = JSON.parse(new TextDecoder().decode(stored));
    return parsed;
  }

  #change(edit: Edit): Promise<void> {
    const change = this.#last.then(() => this.#changeNow(edit));
    this.#last = change.catch(() => undefined);
    return change;
  }

  async #changeNow(edit: Edit): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.nowMs() + CHANGE_TIMEOUT_MS;
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
          this.#leaderStatus();
          if (deadlineMs < clock.nowMs()) {
            throw new ServerError('conflict', 'another membership change is under way');
          }
          await this.#pause();
      }
    }
  }

  #propose(edit: Edit): Promise<RefusedConfiguration | { readonly kind: 'applied' }> {
    return new Promise((resolve, reject) => {
      if (this.#options.status() === undefined) {
        reject(noLeaderError());
        return;
      }
      const command = new Uint8Array(0);
      const proposal = { command, reject, resolve: () => resolve({ kind: 'applied' }) };
      let isJoint = false;
      const guarded: Edit = (inForce) => {
        isJoint = inForce.joint !== undefined;
        try {
          // A joint configuration leads somewhere: what to change is known when it has been left.
          return isJoint ? undefined : edit(inForce);
        } catch (error) {
          // Thrown in the loop's turn, it would end the node instead of this change.
          reject(error);
          return undefined;
        }
      };
      const refused = (result: RefusedConfiguration): void =>
        resolve(isJoint ? { kind: 'pending' } : result);
      this.#options.configure({ kind: 'configure', edit: guarded, proposal, refused });
    });
  }

  /**
   * Waits until the change is the whole cluster's: left by way of the joint configuration if there
   * was one, and applied by a quorum of those who decide from now on. Before that, whoever does not
   * know it would count on a server that its operator is about to switch off. If it takes too long
   * the change is no less made.
   */
  async #settle(): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.nowMs() + CHANGE_TIMEOUT_MS;
    let changedAtIndex: number | undefined;
    while (clock.nowMs() < deadlineMs) {
      const status = this.#options.status();
      if (status?.role !== 'leader') return;
      const { configuration, appliedIndex, progress } = status;
      if (configuration.joint === undefined) {
        changedAtIndex ??= appliedIndex;
        const applied = new Quorum(configuration).index(
          (id) => progress.get(id)?.appliedIndex ?? 0,
        );
        if (changedAtIndex <= applied) return;
      }
      await this.#pause();
    }
  }
}

function idsOf(servers: readonly Server[]): NodeId[] {
  return servers.map(({ id }) => id);
}

function withServer({ servers }: Configuration, server: Server): Configuration {
  return { servers: [...servers.filter((each) => each.id !== server.id), server] };
}

/** Nothing, if all of them are that already. */
function withSuffrage(
  { servers }: Configuration,
  ids: readonly NodeId[],
  suffrage: 'voter' | 'learner',
): Configuration | undefined {
  const isMeant = (server: Server): boolean =>
    ids.includes(server.id) && server.suffrage !== suffrage;
  if (!servers.some(isMeant)) return undefined;
  return { servers: servers.map((each) => (isMeant(each) ? { ...each, suffrage } : each)) };
}

function without({ servers }: Configuration, ids: readonly NodeId[]): Configuration | undefined {
  const rest = servers.filter((each) => !ids.includes(each.id));
  return rest.length === servers.length ? undefined : { servers: rest };
}

/** hashicorp/raft's text. */
function refuseWithoutVoters(next: Configuration | undefined): Configuration | undefined {
  if (next === undefined || new Quorum(next).voters.length > 0) return next;
  throw new ServerError('refused', 'need at least one voter in configuration');
}

/** hashicorp/raft-autopilot's rule and text: a majority is not removed by an address. */
function refuseTooMany(inForce: Configuration, ghosts: readonly Server[]): void {
  const quorum = new Quorum(inForce);
  const lost = new Set(idsOf(ghosts));
  if (quorum.isMet((id) => !lost.has(id))) return;
  throw new ServerError(
    'refused',
    'Preventing server addition that would require removal of too many servers and cause ' +
      'cluster instability',
  );
}
