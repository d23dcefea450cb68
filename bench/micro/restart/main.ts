/** `npm run restart [-- --keys N] [--entries N] [--rounds N]`: prints what `restart.ts` measures. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { measureRestarts, VALUE_BYTES, type Stages } from './restart.ts';

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '1000000' },
    entries: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '5' },
  },
});
const size = {
  keys: Number(values.keys),
  entries: Number(values.entries),
  rounds: Number(values.rounds),
};
const directory = mkdtempSync(join(tmpdir(), 'baobench-restart-'));
try {
  const { level, behind } = await measureRestarts(directory, size);
  const { keys, entries, rounds } = size;
  console.log(
    `${keys} keys of ${VALUE_BYTES} bytes, ${entries} log entries; ms, median of ${rounds}`,
  );
  print('store level with the log', level);
  print('whole log to replay', behind);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function print(name: string, stages: readonly Stages[]): void {
  const median = (pick: (stage: Stages) => number): string => {
    const sorted = stages.map(pick).sort((a, b) => a - b);
    return (sorted[Math.floor(sorted.length / 2)] ?? NaN).toFixed(0);
  };
  const all = stages.map(({ servingMs }) => servingMs.toFixed(0)).join(' ');
  console.log(
    `${name}: modules ${median((each) => each.loadedMs)}, store open ` +
      `${median((each) => each.storeMs)}, log read ${median((each) => each.logMs)}, ` +
      `serving ${median((each) => each.servingMs)} (${all}), CPU ${median((each) => each.cpuMs)}`,
  );
}
