/**
 * What this node was told to join: asked once, or again and again until a member answers
 * (`retry`, and the `retry_join` stanzas of the configuration; OpenBao internal/vault/raft.go,
 * `JoinRaftCluster`). An answer is only the cluster's seal configuration, with which the node waits
 * for the operators' keys; the rest is `join.ts`.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { ServerError } from '../errors.ts';
import { askSealConfig, JOIN_RETRY_MS } from './join.ts';
import type { JoinTarget } from './join.ts';
import type { Logger } from './logger.ts';
import type { JoinClient, JoinPeer } from './ports.ts';

export type JoinRequest = {
  /** Any of them will do. */
  readonly peers: readonly JoinPeer[];
  readonly nonVoter: boolean;
  readonly retry: boolean;
};

export type JoinRequestsOptions = {
  readonly client: JoinClient;
  readonly nodeId: string;
  readonly logger: Logger;
  /** Called before the target takes effect. */
  onTarget(): void;
};

/** Invariant: one request at a time; a later one takes the place of the earlier. */
export class JoinRequests {
  readonly #options: JoinRequestsOptions;
  #attempts: AbortController | undefined;
  #target: JoinTarget | undefined;

  constructor(options: JoinRequestsOptions) {
    this.#options = options;
  }

  /** Whom to join when the keys are given. */
  get target(): JoinTarget | undefined {
    return this.#target;
  }

  /** Resolves with whether there is a target; with `retry` it may come later. */
  async request(request: JoinRequest): Promise<boolean> {
    this.stop();
    const attempts = new AbortController();
    this.#attempts = attempts;
    if (request.retry) {
      void this.#keepAsking(request, attempts.signal);
      return false;
    }
    await this.#ask(request, attempts.signal);
    return true;
  }

  /** Gives up asking, and forgets whom to join. */
  stop(): void {
    this.#attempts?.abort();
    this.#target = undefined;
  }

  async #ask(request: JoinRequest, signal: AbortSignal): Promise<void> {
    const { client, nodeId, onTarget } = this.#options;
    const sealConfig = await askSealConfig(client, request.peers, nodeId);
    if (signal.aborted) return;
    onTarget();
    this.#target = { ...request, sealConfig };
  }

  /** Fails only where there is a bug: a refusal is a reason to ask again. */
  async #keepAsking(request: JoinRequest, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#ask(request, signal);
        return;
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        const { logger } = this.#options;
        logger.warn({ reason: error.message, retryMs: JOIN_RETRY_MS }, 'cannot join yet');
      }
      await delay(JOIN_RETRY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
