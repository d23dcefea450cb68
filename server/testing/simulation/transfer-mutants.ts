/** Bugs to plant into what moves states and frames between nodes (`mutants.ts`). */

import type { Mutant } from './mutants.ts';

export const TRANSFER_MUTANTS: readonly Mutant[] = [
  // Transfers of snapshots.
  {
    name: 'a transfer is resumed at another offset',
    file: 'replica/snapshot-sender.js',
    find: 'this.#sentOffset = offset;\n        return offset;',
    replace: 'this.#sentOffset = offset;\n        return 0;',
    world: 'node',
  },
  {
    name: 'a snapshot goes on with what an older one left',
    file: 'replica/snapshot-files.js',
    find: "return `${index}-${term}-${kind.id.toString('hex')}.${kind.suffix}`;",
    replace:
      "return kind.suffix === 'part' ? 'a.part' : `${index}-${term}-${kind.id.toString('hex')}.outgoing`;",
    world: 'node',
  },
  {
    name: 'two connections write to one file',
    file: 'replica/snapshot-receiver.js',
    find: 'await active.ended;',
    replace: 'break;',
    world: 'node',
  },
  {
    name: 'memory is read into before the connection has sent it',
    file: 'replica/snapshot-sender.js',
    find: 'this.isInUse = true;',
    replace: '',
    world: 'node',
  },
  {
    name: 'a snapshot is called installed before it is',
    file: 'replica/snapshot-receiver.js',
    find: 'await this.#options.onSnapshot(message, file);',
    replace: 'void this.#options.onSnapshot(message, file);',
    world: 'node',
  },
  {
    name: 'a snapshot is called installed before the log is reset',
    file: 'replica/driver.js',
    find: 'if (this.#snapshots.size === 0 || this.#installation !== undefined)',
    replace: 'if (this.#snapshots.size === 0)',
    world: 'node',
  },
  {
    name: 'the name of a received snapshot is not made durable',
    file: 'replica/snapshot-receiver.js',
    find: 'await files.syncDirectory(directory);',
    replace: '',
    world: 'node',
  },
  {
    name: 'a shared snapshot is never released',
    file: 'replica/snapshot-sender.js',
    find: 'lease.release();',
    replace: '',
    world: 'node',
  },
  {
    name: 'a snapshot is lent that the log does not reach back to',
    file: 'replica/snapshot-builder.js',
    find: 'latest !== undefined && firstIndex() <= indexOf(latest) + 1',
    replace: 'latest !== undefined',
    world: 'node',
  },
  {
    name: 'a transfer that failed is not reported',
    file: 'replica/snapshot-sender.js',
    find: 'onDone(to, isComplete);',
    replace: 'if (isComplete) onDone(to, isComplete);',
    world: 'node',
  },
  // Lanes and frames.
  {
    name: 'a length that comes in two pieces is misread',
    file: 'frames.js',
    find: 'chunk.copy(this.#length, this.#lengthFilled, position, position + count);',
    replace: 'chunk.copy(this.#length, 0, position, position + count);',
    world: 'node',
  },
  {
    name: 'a frame that comes in two pieces is misread',
    file: 'frames.js',
    find: 'chunk.copy(this.#payload, this.#payloadFilled, position, position + count);',
    replace: 'chunk.copy(this.#payload, 0, position, position + count);',
    world: 'node',
  },
  {
    name: 'a frame that was cut off is gone on with on the next connection',
    file: 'replica/transport.js',
    find: 'const reader = new FrameReader(PEER_FRAME_BYTES_MAX, HELLO_BYTES_MAX);',
    replace:
      'const reader = (this.reader ??= new FrameReader(PEER_FRAME_BYTES_MAX, HELLO_BYTES_MAX));',
    world: 'node',
  },
  {
    name: 'a lane that lost its connection never dials again',
    file: 'replica/peer-lane.js',
    find: 'this.#socket = undefined;\n        this.#isDialing = false;',
    replace: 'this.#socket = undefined;\n        this.#isDialing = true;',
    world: 'node',
  },
];
