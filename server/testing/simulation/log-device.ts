/**
 * The durable log's way to a simulated disk: the real `LogWriter` behind a queue that takes time,
 * one batch at a time, as the thread of the log does. What arrives while one is under way is the
 * next one.
 */

import { LogWriter, type LogWrite } from '../../storage/log-writer.ts';
import type { StartSink } from '../../storage/log-sink.ts';
import { PowerLoss } from './disk.ts';

export type LogDevice = {
  /** Whether the process that asks still runs. */
  isCurrent(): boolean;
  /** Calls back when the disk gets to the batch. */
  afterDiskDelay(run: () => void): void;
  onPowerLoss(): void;
};

export function startSimulatedSink(device: LogDevice, createSalt: () => Buffer): StartSink {
  return (options, files, events) => {
    const writer = new LogWriter({ ...options, createSalt }, files);
    let waiting: LogWrite[] = [];
    let isBusy = false;
    let isDead = false;

    function attempt(action: () => void): void {
      if (isDead) return;
      try {
        action();
      } catch (error) {
        isDead = true;
        if (error instanceof PowerLoss) device.onPowerLoss();
        else events.onFailure(error);
      }
    }
    function begin(): void {
      isBusy = true;
      device.afterDiskDelay(() =>
        attempt(() => {
          const batch = waiting;
          waiting = [];
          writer.write(batch);
          events.onDurable(batch.length);
          while (writer.removeOldest());
          isBusy = false;
          if (waiting.length > 0) begin();
        }),
      );
    }
    return {
      write(write) {
        waiting.push(write);
        if (!isBusy && !isDead) begin();
      },
      compact: (index) =>
        attempt(() => {
          writer.compact(index);
          while (writer.removeOldest());
        }),
      close: async () => writer.close(),
    };
  };
}
