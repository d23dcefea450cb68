/**
 * What a consensus library of this class has to reach: the floor below which it is not worth
 * having, and the goal. Where a peer is named, the figure is a ratio to it from the same
 * interleaved run; absolute times would be the machine's.
 */

import type { Measured } from '../../analysis/gates.ts';
import { formatMeasured, formatNumber, formatUs } from '../../report/format.ts';

export type Target = {
  readonly id: string;
  readonly claim: string;
  readonly better: 'lower' | 'higher';
  readonly unit: 'ratio' | 'us' | 'share' | 'ms' | 'per-second' | 'count';
  readonly floor: number;
  readonly goal: number;
};

export const TARGETS = {
  P1: define('P1', 'commit p50, 1 caller, ours / hashicorp', 'lower', 'ratio', 1.3, 1),
  P2: define('P2', 'throughput, 16 callers, ours / hashicorp', 'higher', 'ratio', 2, 3.5),
  P3: define('P3', 'throughput, 64 callers, ours / hashicorp', 'higher', 'ratio', 2, 3),
  P4: define('P4', 'throughput, 256 callers, ours / hashicorp', 'higher', 'ratio', 1.5, 2.5),
  P5a: define(
    'P5',
    'apply lag of the slowest follower, isolated writes, p50',
    'lower',
    'us',
    1e3,
    250,
  ),
  P5b: define('P5', 'the same, p99', 'lower', 'us', 10e3, 3e3),
  P6: define('P6', 'apply lag under 64 callers, p99', 'lower', 'us', 20e3, 8e3),
  P7a: define(
    'P7',
    'reads that miss a write just acknowledged (HTTP)',
    'lower',
    'share',
    0.1,
    0.02,
  ),
  P7b: define('P7', 'the same with its index', 'lower', 'share', 0, 0),
  P8: define('P8', 'linearizable read on a standby, added p50 (HTTP)', 'lower', 'us', 500, 200),
  P9: define(
    'P9',
    'commit p50 with syncs of 3 ms more, over one such sync',
    'lower',
    'ratio',
    1.6,
    1.4,
  ),
  P10a: define('P10', 'kill -9 of the leader to the next write, p50', 'lower', 'us', 2.5e6, 1.5e6),
  P10b: define('P10', 'the same, longest', 'lower', 'us', 4e6, 2.5e6),
  P11: define('P11', 'write gap of a step-down, longest', 'lower', 'us', 300e3, 50e3),
  P13a: define('P13', 'CPU per write at 64 callers, leader', 'lower', 'us', 30, 15),
  P13b: define('P13', 'the same, follower', 'lower', 'us', 35, 18),
  P12: define('P12', 'leader changes, HTTP saturated, blocks of 400 ms', 'lower', 'count', 0, 0),
  P14: define(
    'P14',
    'restart to local reads, 1 M keys, 100 k entries, longest',
    'lower',
    'us',
    3e6,
    1e6,
  ),
  P15a: define('P15', 'a new server gets 1 M keys of 300 bytes, p50', 'lower', 'us', 60e6, 15e6),
  P15b: define('P15', 'p99 of writes meanwhile, over that before', 'lower', 'ratio', 2, 1.3),
  P16a: define(
    'P16',
    'simulated events per second of CPU, raft core',
    'higher',
    'per-second',
    100e3,
    300e3,
  ),
  P16b: define('P16', 'the same, whole nodes', 'higher', 'per-second', 100e3, 300e3),
} as const satisfies Readonly<Record<string, Target>>;

export type Row = {
  readonly target: Target;
  /** Undefined where nothing is sent between nodes. */
  readonly tls: boolean | undefined;
  readonly measured: Measured;
};

function define(
  id: string,
  claim: string,
  better: Target['better'],
  unit: Target['unit'],
  floor: number,
  goal: number,
): Target {
  return { id, claim, better, unit, floor, goal };
}

/** `goal`, `floor` or `below` for a figure; `refused` where there is none. */
export function judge({ target, measured }: Row): 'goal' | 'floor' | 'below' | 'refused' {
  if ('refused' in measured) return 'refused';
  const reaches = (limit: number): boolean =>
    target.better === 'lower' ? measured.value <= limit : limit <= measured.value;
  if (reaches(target.goal)) return 'goal';
  return reaches(target.floor) ? 'floor' : 'below';
}

const WIDTHS = { id: 4, claim: 58, tls: 6, figure: 26, floor: 10, goal: 10 };

export function formatTable(rows: readonly Row[]): string[] {
  const line = (cells: readonly [string, string, string, string, string, string, string]): string =>
    [
      cells[0].padEnd(WIDTHS.id),
      cells[1].padEnd(WIDTHS.claim),
      cells[2].padEnd(WIDTHS.tls),
      cells[3].padEnd(WIDTHS.figure),
      cells[4].padStart(WIDTHS.floor),
      cells[5].padStart(WIDTHS.goal),
      `  ${cells[6]}`,
    ].join('');
  return [
    line(['', '', 'TLS', 'measured', 'floor', 'goal', 'reached']),
    ...rows.map((row) => {
      const { id, claim, unit, floor, goal } = row.target;
      const figure = formatMeasured(row.measured, unit === 'us' ? 'us' : 'number');
      const limit = unit === 'us' ? formatUs : formatNumber;
      const tls = row.tls === undefined ? '–' : row.tls ? 'on' : 'off';
      return line([id, claim, tls, figure, limit(floor), limit(goal), judge(row)]);
    }),
  ];
}
