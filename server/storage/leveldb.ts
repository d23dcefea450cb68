/**
 * Opens the store in LevelDB, in one of two modes:
 *
 * - `sync`: every batch is synced before it can be published (`sync-store.ts`).
 * - `overlay`: a batch is published at once from memory, and many of them become durable together
 *   soon afterwards (`overlay-store.ts`).
 *
 * The format on disk is the same, and a store may be opened in either mode each time.
 */

import { LevelHome } from './level-home.ts';
import type { ImportStep, LevelOptions } from './level-home.ts';
import { OverlayStore } from './overlay-store.ts';
import { SyncStore } from './sync-store.ts';
import type { Store } from './store.ts';

export type StoreMode = 'sync' | 'overlay';

export type LevelStoreOptions = LevelOptions & { readonly mode: StoreMode };

/** Opens or creates a store in a directory of its own. */
export async function openLevelStore(
  directory: string,
  options: LevelStoreOptions,
): Promise<Store> {
  return openLevelStoreWithSteps(directory, options, () => {});
}

/** `openLevelStore` that tells how far an import is, for crash tests. */
export async function openLevelStoreWithSteps(
  directory: string,
  options: LevelStoreOptions,
  reached: (step: ImportStep) => void,
): Promise<Store> {
  const { home, position } = await LevelHome.open(directory, { ...options, reached });
  return options.mode === 'sync' ? new SyncStore(home, position) : new OverlayStore(home, position);
}
