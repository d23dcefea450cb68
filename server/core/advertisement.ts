/**
 * What the active node tells the others about itself, at `core/leader` behind the barrier
 * (OpenBao `advertiseLeader`): only members can read it, so nobody forwards to an impostor.
 */

import assert from 'node:assert/strict';
import type { Barrier } from './barrier.ts';

export const ADVERTISEMENT_PATH = 'core/leader';

export type Advertisement = {
  readonly nodeId: string;
  /** Where clients reach it: its `api_addr`. */
  readonly redirectAddress: string;
  readonly clusterAddress: string;
  readonly term: number;
};

export class AdvertisementBoard {
  readonly #barrier: Barrier;
  /** null: nothing is posted; undefined: not read since the last change. */
  #posted: Advertisement | null | undefined;

  constructor(barrier: Barrier) {
    this.#barrier = barrier;
  }

  /** What is posted, by whomever and however long ago: the poster may be gone. */
  read(): Advertisement | undefined {
    if (this.#posted === undefined) this.#posted = parse(this.#barrier.get(ADVERTISEMENT_PATH));
    return this.#posted ?? undefined;
  }

  async post(advertisement: Advertisement): Promise<void> {
    await this.#barrier.put(ADVERTISEMENT_PATH, Buffer.from(JSON.stringify(advertisement)));
  }

  invalidate(): void {
    this.#posted = undefined;
  }
}

function parse(bytes: Buffer | undefined): Advertisement | null {
  if (bytes === undefined) return null;
  const advertisement: Advertisement = JSON.parse(bytes.toString());
  assert.equal(typeof advertisement.nodeId, 'string');
  assert.equal(typeof advertisement.clusterAddress, 'string');
  return advertisement;
}
