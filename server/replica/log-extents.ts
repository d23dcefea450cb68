/**
 * How far the leader's log reached, and when: what there was a while ago, every state machine should
 * have by now. Looked at several times a second, over whatever time is configured: so few points in
 * time are kept, evenly.
 */

type Extent = { readonly atMs: number; readonly lastIndex: number };

/** Within the time that is looked back on. What is due is found out later by such a part of it. */
export const EXTENTS_MAX = 64;

export class LogExtents {
  /** Ascending; the first is the last of those that are old enough to be asked for. */
  #extents: readonly Extent[] = [];

  get count(): number {
    return this.#extents.length;
  }

  add(extent: Extent, lookBackMs: number): void {
    const newest = this.#extents.at(-1);
    if (newest !== undefined && extent.atMs - newest.atMs < lookBackMs / EXTENTS_MAX) return;
    this.#extents = [...this.#extents, extent];
  }

  /** The last index of then, or of shortly before; 0 while that is not known. Forgets what was before. */
  lastIndexAt(atMs: number): number {
    const due = this.#extents.findLastIndex((extent) => extent.atMs <= atMs);
    if (due === -1) return 0;
    this.#extents = this.#extents.slice(due);
    return this.#extents[0]?.lastIndex ?? 0;
  }
}
