/**
 * Init, unseal, join, seal: what a node is between its start and the requests it serves. One such
 * step at a time; each either completes or leaves the node sealed, with nothing stored lost.
 *
 * What sealing leaves: the local store as it is, and no key in memory but those the operators
 * hold. The node then takes no part in the cluster.
 */

import { ServerError, standbyPleaseForwardError } from '../errors.ts';
import { AdvertisementBoard } from './advertisement.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { JsonObject } from './backend.ts';
import { Barrier } from './barrier.ts';
import {
  clusterOperations,
  createClusterInfo,
  readClusterInfo,
  readCredentials,
} from './cluster-info.ts';
import type { ClusterInfo } from './cluster-info.ts';
import type { CoreOptions, Leader } from './core-options.ts';
import { HaRole } from './ha-role.ts';
import { runStandby } from './ha.ts';
import { JoinChallenges, arrival, deriveJoinKeys, join } from './join.ts';
import type { JoinClaim, JoinKeys } from './join.ts';
import { JoinRequests } from './join-request.ts';
import type { JoinRequest } from './join-request.ts';
import { PhysicalCache } from './physical-cache.ts';
import {
  UnsealProgress,
  createKey,
  readRootKey,
  readSealConfig,
  rootKeyOperation,
  sealConfigOperation,
  splitKey,
  validateSealConfig,
} from './seal.ts';
import type { SealConfig, SealStatus } from './seal.ts';
import type { Services } from './services.ts';

/** What exists only while unsealed. */
type Running = {
  readonly abort: AbortController;
  /** The HA loop; never rejects. */
  readonly finished: Promise<void>;
  readonly challenges: JoinChallenges;
  readonly clusterInfo: ClusterInfo;
};

export class NodeLife {
  readonly barrier: Barrier;
  readonly #options: CoreOptions;
  readonly #board: AdvertisementBoard;
  readonly #physicalCache: PhysicalCache | undefined;
  readonly #role: HaRole;
  readonly #progress = new UnsealProgress();
  #sealConfig: SealConfig | undefined;
  readonly #joining: JoinRequests;
  #running: Running | undefined;
  #isReplicating = false;
  #lastStep: Promise<unknown> = Promise.resolve();

  constructor(options: CoreOptions) {
    const { physical, settings } = options;
    this.#options = options;
    this.#physicalCache =
      settings.cache === undefined ? undefined : new PhysicalCache(physical, settings.cache);
    this.barrier = new Barrier(physical, this.#physicalCache ?? physical);
    this.#board = new AdvertisementBoard(this.barrier);
    this.#joining = new JoinRequests({
      client: options.joinClient,
      nodeId: options.leadership.nodeId,
      logger: options.logger,
      onTarget: () => this.#progress.reset(),
    });
    this.#role = new HaRole({
      ...options,
      barrier: this.barrier,
      board: this.#board,
      physicalCache: this.#physicalCache,
      onFatal: (error) => void this.#sealAfter(error),
    });
    // For as long as the process lives: a sealed node's cache must not go stale either.
    options.changeFeed.subscribe((change) => {
      this.#role.handleChange(change);
      if (change.kind === 'everything') this.#forgetIdentity();
    });
  }

  get gate(): HaRole['gate'] {
    return this.#role.gate;
  }

  get activeTimeMs(): number | null {
    return this.#role.activeTimeMs;
  }

  get isSealed(): boolean {
    return this.#running === undefined;
  }

  /** True also for a node that is about to join a cluster, as in OpenBao. */
  get isInitialized(): boolean {
    return this.#localSealConfig() !== undefined || this.#joining.target !== undefined;
  }

  /** Throws `sealed`. Without services this is a plain standby. */
  requireUnsealed(): { readonly services: Services | undefined; readonly isStandby: boolean } {
    if (this.#running === undefined) throw new ServerError('sealed', 'Vault is sealed');
    const { services, isStandby } = this.#role;
    // A former active node keeps its services until it has become a plain standby.
    const isPlain = isStandby && this.#options.settings.disableStandbyReads;
    return { services: isPlain ? undefined : services, isStandby };
  }

  sealStatus(): SealStatus {
    const config = this.#localSealConfig() ?? this.#joining.target?.sealConfig;
    return {
      type: 'shamir',
      initialized: config !== undefined,
      sealed: this.isSealed,
      t: config?.secretThreshold ?? 0,
      n: config?.secretShares ?? 0,
      progress: this.#progress.shareCount,
      nonce: this.#progress.nonce,
      clusterName: this.#running?.clusterInfo.name,
      clusterId: this.#running?.clusterInfo.id,
    };
  }

  leader(): Leader | undefined {
    const { leadership, settings } = this.#options;
    const { activeTimeMs } = this.#role;
    if (activeTimeMs !== null) {
      return {
        isSelf: true,
        nodeId: leadership.nodeId,
        redirectAddress: settings.apiAddress,
        clusterAddress: settings.clusterAddress,
        activeTimeMs,
      };
    }
    const posted = this.#board.read();
    const leaderId = leadership.leaderId();
    // What a former leader posted, or this node in an earlier life, leads nowhere.
    if (posted === undefined || posted.nodeId !== leaderId) return undefined;
    if (leaderId === leadership.nodeId) return undefined;
    const { nodeId, redirectAddress, clusterAddress } = posted;
    return { isSelf: false, nodeId, redirectAddress, clusterAddress, activeTimeMs: null };
  }

  initialize(
    config: SealConfig,
  ): Promise<{ readonly keys: readonly Buffer[]; readonly rootToken: string }> {
    return this.#exclusive(async () => {
      const { replication } = this.#options;
      if (this.isInitialized) {
        throw new ServerError('invalid-request', 'Vault is already initialized');
      }
      validateSealConfig(config);
      this.#joining.stop();
      if (replication.isBootstrapped()) {
        throw new ServerError(
          'invalid-request',
          'Cannot initialize: the storage holds an initialization or a join that did not ' +
            'complete: remove it, or join again',
        );
      }
      const rootKey = createKey();
      const unsealKey = createKey();
      try {
        const keys = await splitKey(unsealKey, config);
        const rootToken = await this.#found(config, { rootKey, unsealKey });
        return { keys, rootToken };
      } finally {
        rootKey.fill(0);
        unsealKey.fill(0);
        await this.#shutDown();
      }
    });
  }

  unseal(share: Buffer): Promise<SealStatus> {
    return this.#exclusive(async () => {
      const config = this.#localSealConfig() ?? this.#joining.target?.sealConfig;
      if (config === undefined) {
        throw new ServerError('invalid-request', 'Vault is not initialized');
      }
      if (!this.isSealed) return this.sealStatus();
      const unsealKey = await this.#progress.add(share, config);
      if (unsealKey === undefined) return this.sealStatus();
      try {
        await this.#unsealWith(unsealKey);
      } catch (error) {
        await this.#shutDown();
        throw error;
      } finally {
        unsealKey.fill(0);
      }
      return this.sealStatus();
    });
  }

  resetUnseal(): SealStatus {
    if (!this.isSealed) throw new ServerError('invalid-request', 'vault is unsealed');
    this.#progress.reset();
    return this.sealStatus();
  }

  seal(): Promise<void> {
    return this.#exclusive(async () => {
      const running = this.#running;
      this.#joining.stop();
      if (running === undefined) return;
      const { leadership, logger } = this.#options;
      const wasActive = !this.#role.isStandby;
      this.#running = undefined;
      this.#role.demote();
      // A cluster of one has nobody to hand over to, and is sealed all the same.
      if (wasActive) await leadership.stepDown().catch(() => undefined);
      running.abort.abort();
      await this.#stopReplication();
      await running.finished;
      running.challenges.destroy();
      await this.#shutDown();
      logger.info({}, 'sealed');
    });
  }

  /**
   * Asks the members how many shares it takes; joins when they have been given. Resolves with
   * whether this node is joined, or knows whom to join.
   */
  async requestJoin(request: JoinRequest): Promise<boolean> {
    if (this.#localSealConfig() !== undefined) return true;
    return this.#joining.request(request);
  }

  bootstrapChallenge(nodeId: string): JsonObject {
    const sealConfig = this.#localSealConfig();
    const { challenges } = this.#requireActive();
    if (sealConfig === undefined) throw new ServerError('sealed', 'Vault is sealed');
    return challenges.create(nodeId, sealConfig);
  }

  async bootstrapAnswer(claim: JoinClaim & { readonly answer: string }): Promise<JsonObject> {
    const { challenges } = this.#requireActive();
    const { answer, ...claimed } = claim;
    challenges.verify(claimed, answer);
    const { nodeId, instance, clusterAddress, nonVoter } = claimed;
    const credentials = readCredentials(this.barrier);
    const server = { id: nodeId, instance, address: clusterAddress, nonVoter };
    await this.#options.replication.addServer(server);
    this.#options.logger.info({ nodeId, clusterAddress, nonVoter }, 'node joined');
    return challenges.sealCredentials(nodeId, credentials);
  }

  /** The seal configuration comes last: until it is there, nothing was initialized. */
  async #found(
    config: SealConfig,
    keys: { readonly rootKey: Buffer; readonly unsealKey: Buffer },
  ): Promise<string> {
    const { physical, replication, createCredentials, settings, clock } = this.#options;
    const credentials = await createCredentials();
    await replication.bootstrap(credentials);
    this.#isReplicating = true;
    this.barrier.initialize(keys.rootKey, clock());
    this.barrier.setReadOnly(false);
    await physical.write([
      rootKeyOperation(keys.unsealKey, keys.rootKey),
      this.barrier.keyringOperation(),
      ...clusterOperations(this.barrier, createClusterInfo(settings.clusterName), credentials),
    ]);
    const services = await this.#role.postUnseal();
    await services.mounts.createDefaults(ROOT_NAMESPACE);
    const { clientToken } = await services.tokens.createRootToken();
    await physical.write([sealConfigOperation(config)]);
    return clientToken;
  }

  async #unsealWith(unsealKey: Buffer): Promise<void> {
    const { physical, replication } = this.#options;
    const joinKeys = deriveJoinKeys(unsealKey);
    if (this.#localSealConfig() === undefined) await this.#join(joinKeys);
    const rootKey = readRootKey(physical, unsealKey);
    try {
      this.barrier.unseal(rootKey);
    } finally {
      rootKey.fill(0);
    }
    if (!this.#isReplicating) {
      this.#isReplicating = true;
      await replication.start(readCredentials(this.barrier));
    }
    await this.#unsealInternal(joinKeys);
  }

  async #unsealInternal(joinKeys: JoinKeys): Promise<void> {
    const { leadership, logger } = this.#options;
    const abort = new AbortController();
    const { signal } = abort;
    await this.#role.begin(signal);
    const clusterInfo = readClusterInfo(this.barrier);
    this.#joining.stop();
    const challenges = new JoinChallenges(joinKeys, this.#options.clock);
    const loop = runStandby(this.#role, leadership, { signal, logger });
    // Not awaited: sealing waits for the loop in its turn.
    const finished = loop.catch((error: unknown) => void this.#sealAfter(error));
    this.#running = { abort, finished, challenges, clusterInfo };
    logger.info({}, 'unsealed');
  }

  async #join(keys: JoinKeys): Promise<void> {
    const { joinClient, leadership, replication, settings } = this.#options;
    const { target } = this.#joining;
    if (target === undefined) {
      throw new ServerError('invalid-request', 'Vault is not initialized');
    }
    const claim = {
      nodeId: leadership.nodeId,
      instance: replication.instance,
      clusterAddress: settings.clusterAddress,
      nonVoter: target.nonVoter,
    };
    const credentials = await join(joinClient, target, claim, { keys, msMax: settings.joinMsMax });
    this.#isReplicating = true;
    await replication.start(credentials);
    // With the cluster's seal configuration all is here that it needs.
    const hasArrived = (): boolean => this.#localSealConfig() !== undefined;
    await arrival(this.#options.changeFeed, hasArrived, settings.joinMsMax);
  }

  #requireActive(): Running {
    const running = this.#running;
    if (running === undefined) throw new ServerError('sealed', 'Vault is sealed');
    if (this.#role.isStandby) throw standbyPleaseForwardError();
    return running;
  }

  /** A restored state may be another cluster's. */
  #forgetIdentity(): void {
    this.#sealConfig = undefined;
    const running = this.#running;
    if (running === undefined || this.barrier.isSealed) return;
    try {
      this.#running = { ...running, clusterInfo: readClusterInfo(this.barrier) };
    } catch (error) {
      void this.#sealAfter(error);
    }
  }

  /** Once read it never changes, but by a restored snapshot. */
  #localSealConfig(): SealConfig | undefined {
    this.#sealConfig ??= readSealConfig(this.#options.physical);
    return this.#sealConfig;
  }

  /** Memory without keys, services and sealed values; the node out of the cluster. */
  async #shutDown(): Promise<void> {
    this.#role.demote();
    this.#role.preSeal();
    this.barrier.seal();
    this.#board.invalidate();
    this.#physicalCache?.clear();
    await this.#stopReplication();
  }

  async #stopReplication(): Promise<void> {
    if (!this.#isReplicating) return;
    this.#isReplicating = false;
    await this.#options.replication.stop();
  }

  async #sealAfter(error: unknown): Promise<void> {
    const { logger } = this.#options;
    logger.error({ error }, 'cannot go on: sealing');
    try {
      await this.seal();
    } catch (cause) {
      logger.error({ error: cause }, 'sealing failed');
    }
  }

  #exclusive<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#lastStep.then(step);
    this.#lastStep = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}
