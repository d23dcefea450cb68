/**
 * The files of snapshots on a simulated disk, for one process: what asks the device for something
 * takes its time, everything else is a matter of the page cache, unless that is full. Each operation
 * is a fault point.
 */

import type { FileOperations, OpenFile } from '../../replica/file-operations.ts';
import { PowerLoss, type SimulatedDisk } from './disk.ts';
import type { LogDevice } from './log-device.ts';

const PIECE_BYTES = 100;

export function simulatedFiles(
  disk: SimulatedDisk,
  device: LogDevice,
  { slowWrites }: { readonly slowWrites: boolean },
): FileOperations {
  /** Never settles if the node ends by it, or has ended. */
  function attempt<T>(act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!device.isCurrent()) return;
      try {
        resolve(act());
      } catch (error) {
        if (error instanceof PowerLoss) device.onPowerLoss();
        else reject(error as Error);
      }
    });
  }
  function attemptOnDevice(act: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!device.isCurrent()) return;
      device.afterDiskDelay(() => void attempt(act).then(resolve, reject));
    });
  }
  function openFile(descriptor: number): OpenFile {
    const end = (): number => disk.lengthOf(descriptor);
    return {
      read: (memory, start, bytes, position) =>
        attempt(() => {
          const part = disk.readAt(descriptor, position, bytes);
          part.copy(memory, start);
          return { bytesRead: part.length };
        }),
      writeFile: (bytes) =>
        (slowWrites ? attemptOnDevice : attempt)(() => {
          for (let written = 0; written < bytes.length;) {
            written += disk.writev(descriptor, [bytes.subarray(written)], end());
          }
        }),
      datasync: () => attemptOnDevice(() => disk.datasync(descriptor)),
      sync: () => attemptOnDevice(() => disk.datasync(descriptor)),
      close: () => attempt(() => disk.close(descriptor)),
    };
  }
  return {
    makeDirectory: () => attempt(() => undefined),
    list: () => attempt(() => disk.list()),
    open: (path, flags) =>
      attempt(() => {
        const isNew = flags === 'wx' || (flags === 'a' && !disk.holds(path));
        return openFile(isNew ? disk.create(path) : disk.openExisting(path));
      }),
    async *pieces(path) {
      const bytes = await attempt(() => disk.read(path));
      for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
        yield bytes.subarray(start, start + PIECE_BYTES);
      }
    },
    rename: (from, to) => attempt(() => disk.rename(from, to)),
    remove: (path) =>
      attempt(() => {
        if (disk.holds(path)) disk.unlink(path);
      }),
    syncDirectory: () => attemptOnDevice(() => disk.syncDirectory()),
  };
}
