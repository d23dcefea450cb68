/** What a simulated node keeps across its processes, and what it was promised to be kept. */

import type { Configuration, HardState } from '../../raft/message.ts';
import type { LogAppend } from '../../storage/durable-log.ts';
import { LogImage } from '../simulated-node.ts';
import { StoreImage } from './durable-store.ts';
import { SimulatedDisk } from './disk.ts';

export class NodeDisks {
  readonly log = new SimulatedDisk();
  readonly store: StoreImage;
  /** Of their own, and so are their troubles. */
  readonly snapshots = new SimulatedDisk();
  /** What the log was reported to hold durably. */
  readonly promised = new LogImage();
  /** A segment with a flipped bit. As long as it is there, no process may start. */
  rottenPath: string | undefined;
  hardState: HardState = { currentTerm: 0, votedFor: null, commitIndex: 0 };
  /** Appends that were begun and not reported, oldest first: some of them may be there as well. */
  underWay: LogAppend[] = [];

  constructor(founding: Configuration) {
    this.store = new StoreImage({
      lastIncludedIndex: 0,
      lastIncludedTerm: 0,
      configuration: founding,
    });
  }

  promise(write: LogAppend): void {
    const position = this.underWay.indexOf(write);
    if (position >= 0) this.underWay.splice(position, 1);
    applyAppend(this.promised, write);
    this.hardState = write.hardState ?? this.hardState;
  }
}

export function applyAppend(image: LogImage, { reset, entries }: LogAppend): void {
  if (reset !== undefined) image.reset(reset.index, reset.term);
  for (const entry of entries) image.put(entry);
}
