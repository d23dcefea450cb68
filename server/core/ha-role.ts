/**
 * What an unsealed node is right now, and how that changes. A standby runs `postUnseal` in the
 * read-only strategy; a promotion keeps what that built (`reuse`) or builds it anew (`rebuild`,
 * which is what OpenBao does), and a plain standby (`disableStandbyReads`) builds it only then.
 *
 * Invariants:
 * - The barrier is writable only from a promotion, done with nobody inside the gate, to the moment
 *   at which that tenure is known to have ended; and not from when the state is replaced until
 *   nobody is inside who knew the old one.
 * - `services` hear of every change from before they begin to load.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { AdvertisementBoard } from './advertisement.ts';
import type { Barrier } from './barrier.ts';
import type { HaSteps } from './ha.ts';
import { invalidateEverything, invalidateKeys } from './invalidation.ts';
import type { Logger } from './logger.ts';
import type { PhysicalCache } from './physical-cache.ts';
import type { Change, Leadership, Tenure } from './ports.ts';
import { RequestGate } from './request-gate.ts';
import type { DrainOptions } from './request-gate.ts';
import { createServices, readonlyUnsealStrategy, standardUnsealStrategy } from './services.ts';
import type { ServiceParts, Services, UnsealStrategy } from './services.ts';

export type HaRoleParts = ServiceParts & {
  readonly barrier: Barrier;
  readonly board: AdvertisementBoard;
  readonly physicalCache: PhysicalCache | undefined;
  readonly leadership: Leadership;
  readonly settings: {
    readonly promotion: 'reuse' | 'rebuild';
    readonly disableStandbyReads: boolean;
    readonly apiAddress: string;
    readonly clusterAddress: string;
    readonly drainMsMax: number;
  };
  readonly logger: Logger;
  /** The node cannot go on: its memory may not match its storage. */
  readonly onFatal: (error: unknown) => void;
};

const ADVERTISE_RETRY_MS = 100;

export class HaRole implements HaSteps {
  readonly gate = new RequestGate();
  readonly #parts: HaRoleParts;
  #services: Services | undefined;
  #strategy: UnsealStrategy = readonlyUnsealStrategy;
  #isStandby = true;
  #activeTimeMs: number | null = null;
  #tenure: Tenure | undefined;
  #signal: AbortSignal = AbortSignal.abort();

  constructor(parts: HaRoleParts) {
    this.#parts = parts;
  }

  /** Undefined on a plain standby. */
  get services(): Services | undefined {
    return this.#services;
  }

  get isStandby(): boolean {
    return this.#isStandby;
  }

  /** Since when the others know this node as the active one. */
  get activeTimeMs(): number | null {
    return this.#activeTimeMs;
  }

  /** The first unseal of a standby. `signal` ends what waits, when the node is sealed. */
  async begin(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    if (!this.#parts.settings.disableStandbyReads) await this.postUnseal();
  }

  async postUnseal(): Promise<Services> {
    const services = createServices(this.#parts);
    this.#services = services;
    await services.mounts.load();
    return services;
  }

  /** Drops everything that was built. */
  preSeal(): void {
    if (this.#services !== undefined) this.#strategy.stop(this.#services);
    this.#strategy = readonlyUnsealStrategy;
    this.#services = undefined;
  }

  async becomeActive(tenure: Tenure): Promise<void> {
    const { barrier, settings, logger, clock } = this.#parts;
    this.#tenure = tenure;
    void tenure.lost.then(() => this.#demoteFrom(tenure));
    const startMs = clock();
    await this.gate.closeWhile(this.#drainOptions(), async () => {
      if (this.#services === undefined || settings.promotion === 'rebuild') {
        this.preSeal();
        await this.postUnseal();
      }
      if (this.#tenure !== tenure || this.#signal.aborted) return;
      barrier.setReadOnly(false);
      this.#isStandby = false;
    });
    if (!(await this.#advertise(tenure))) return;
    if (this.#services === undefined) return;
    this.#strategy = standardUnsealStrategy;
    this.#strategy.start(this.#services);
    this.#activeTimeMs = clock();
    logger.info({ term: tenure.term, promotionMs: clock() - startMs }, 'became active');
  }

  async becomeStandby(): Promise<void> {
    const { settings, logger } = this.#parts;
    this.demote();
    if (this.#signal.aborted) return;
    logger.info({}, 'became standby');
    if (settings.disableStandbyReads) {
      this.preSeal();
    } else if (settings.promotion === 'rebuild') {
      await this.gate.closeWhile(this.#drainOptions(), async () => {
        this.preSeal();
        await this.postUnseal();
      });
    }
  }

  /** Takes effect at once, on requests under way too: their next write is refused. */
  demote(): void {
    this.#parts.barrier.setReadOnly(true);
    this.#tenure = undefined;
    this.#isStandby = true;
    this.#activeTimeMs = null;
    if (this.#services !== undefined) this.#strategy.stop(this.#services);
    this.#strategy = readonlyUnsealStrategy;
  }

  #demoteFrom(tenure: Tenure): void {
    if (this.#tenure === tenure) this.demote();
  }

  /** A listener of the change feed: runs in its turn, and does not throw. */
  handleChange(change: Change): void {
    try {
      if (change.kind === 'keys') {
        invalidateKeys(change.keys, this.#parts, this.#services);
        return;
      }
      invalidateEverything(this.#parts, this.#services);
    } catch (error) {
      this.#parts.onFatal(error);
      return;
    }
    // What began on the state that is gone must not write to this one.
    this.#parts.barrier.setReadOnly(true);
    const services = this.#services;
    if (services === undefined) return;
    // Listing the mounts takes turns; until it is done nobody may see the old ones.
    const reload = this.gate.closeWhile(this.#drainOptions(), () =>
      this.#isStandby ? services.mounts.load() : this.#rebuild(),
    );
    reload.catch(this.#parts.onFatal);
  }

  /** The state under an active node was replaced by a restored one. Runs inside the closed gate. */
  async #rebuild(): Promise<void> {
    const tenure = this.#tenure;
    const isExpiring = this.#activeTimeMs !== null;
    this.preSeal();
    const services = await this.postUnseal();
    if (tenure === undefined || this.#tenure !== tenure || this.#signal.aborted) return;
    this.#parts.barrier.setReadOnly(false);
    if (isExpiring) {
      this.#strategy = standardUnsealStrategy;
      this.#strategy.start(services);
    }
    // What is posted is of the node that led when the state was taken.
    await this.#advertise(tenure);
  }

  /** False if the tenure ended before it was told. Tries for as long as it lasts. */
  async #advertise(tenure: Tenure): Promise<boolean> {
    const { board, leadership, settings, logger } = this.#parts;
    while (this.#tenure === tenure && !this.#signal.aborted) {
      try {
        await board.post({
          nodeId: leadership.nodeId,
          redirectAddress: settings.apiAddress,
          clusterAddress: settings.clusterAddress,
          term: tenure.term,
        });
        return this.#tenure === tenure;
      } catch (error) {
        logger.warn({ error, term: tenure.term }, 'advertisement failed');
      }
      await Promise.race([tenure.lost, delay(ADVERTISE_RETRY_MS, undefined, { ref: false })]);
    }
    return false;
  }

  #drainOptions(): DrainOptions {
    const { settings, logger } = this.#parts;
    return {
      drainMsMax: settings.drainMsMax,
      signal: this.#signal,
      onOverdue: (inside) => logger.warn({ inside }, 'requests did not finish before a change'),
    };
  }
}
