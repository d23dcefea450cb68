/**
 * The summary at the end of a run: at most forty lines of eighty columns, readable without colour.
 *
 * What tells whether the figures can be trusted (verdict, gates, refusals, machine) is never cut.
 * Where there is too much, tables lose rows, the least telling first, and say how many. A refused
 * cell bears a number; what it stands for is said below the tables.
 */

import type { Measured } from '../analysis/gates.ts';
import type { LagPoint, Mode, Run, ScalingPoint, ScopedGate } from '../run.ts';
import {
  formatBound,
  formatMeasured,
  formatNumber,
  formatUs,
  formatValue,
  judgeFactor,
  modeName,
  pathName,
} from './format.ts';

export const SUMMARY_LINES_MAX = 40;
const WIDTH = 80;
const MODES: readonly Mode[] = ['standby-reads', 'baseline'];
const FACTOR_WIDTH = 21;
const RATE_WIDTH = 8;

/** Gives a reason a number, the same for the same reason: `(2)`. */
type Cite = (reason: string) => string;

type Row = {
  /** Rows of a low rank go first when there is too little room. */
  readonly rank: number;
  readonly draw: (cite: Cite) => string;
};

type Table = { readonly head: readonly string[]; readonly rows: readonly Row[] };

/** Lines without line ends. */
export function renderSummary(run: Run): string[] {
  let tables = [scalingTable(run), forwardingTable(run), lagTable(run)].flatMap((table) =>
    table === undefined ? [] : [{ ...table, hidden: 0 }],
  );
  for (;;) {
    const lines = draw(run, tables);
    const longest = tables.toSorted((a, b) => b.rows.length - a.rows.length)[0];
    if (lines.length <= SUMMARY_LINES_MAX) return lines;
    if (longest === undefined || longest.rows.length === 0) return lines;
    const shorter = withoutLeast(longest);
    tables = tables.map((table) => (table === longest ? shorter : table));
  }
}

type ShownTable = Table & { readonly hidden: number };

function withoutLeast(table: ShownTable): ShownTable {
  const least = Math.min(...table.rows.map(({ rank }) => rank));
  const at = table.rows.findIndex(({ rank }) => rank === least);
  return { ...table, rows: table.rows.toSpliced(at, 1), hidden: table.hidden + 1 };
}

function draw(run: Run, tables: readonly ShownTable[]): string[] {
  const reasons: string[] = [];
  const cite: Cite = (reason) => {
    if (!reasons.includes(reason)) reasons.push(reason);
    return `(${reasons.indexOf(reason) + 1})`;
  };
  const drawn = tables.flatMap(({ head, rows, hidden }) => [
    ...(rows.length === 0 ? head.slice(0, 1) : head),
    ...rows.map((row) => row.draw(cite).trimEnd()),
    ...(hidden === 0 ? [] : [`  ${hidden} more in the report`]),
    '',
  ]);
  return [
    ...wrap(`${run.verdict.status.toUpperCase()}: ${run.verdict.sentence}`, ''),
    '',
    ...drawn,
    ...trustLines(run, reasons),
  ];
}

function scalingTable(run: Run): Table | undefined {
  if (run.scaling === null) return undefined;
  const { isolation, quotaCores, series } = run.scaling;
  const quota =
    isolation === 'modelled'
      ? `modelled for ${quotaCores} core per node, no CPU groups`
      : `${quotaCores} core per node`;
  const rows = series.flatMap(({ workload, points }, position) => {
    const counts = [...new Set(points.map(({ nodes }) => nodes))];
    return counts.map((count, index) => ({
      // The largest size of each workload answers the question; then the first workload.
      rank: (count === Math.max(...counts) ? 10_000 : 0) - 100 * position + index,
      draw: (cite: Cite) => {
        const cells = MODES.map((mode) =>
          points.find((point) => point.mode === mode && point.nodes === count),
        ).map((point) => scalingCell(point, cite));
        return `${workload.slice(0, 14).padEnd(15)}${String(count).padStart(3)}  ${cells.join('  ')}`;
      },
    }));
  });
  const columns = MODES.map(
    (mode) =>
      (mode === 'baseline' ? 'single-leader' : modeName(mode)).padEnd(FACTOR_WIDTH) +
      'done/s'.padStart(RATE_WIDTH),
  );
  return {
    head: [
      `Throughput scaling, x one node (${quota})`,
      `${'workload'.padEnd(16)}${'N'.padStart(2)}  ${columns.join('  ')}`,
    ],
    rows,
  };
}

function scalingCell(point: ScalingPoint | undefined, cite: Cite): string {
  const width = FACTOR_WIDTH + RATE_WIDTH;
  if (point === undefined) return ''.padEnd(width);
  const { speedup, throughput } = point;
  if ('refused' in speedup) return `refused ${cite(speedup.refused)}`.padEnd(width);
  const interval =
    speedup.low === undefined || speedup.high === undefined
      ? ''
      : ` [${speedup.low.toFixed(2)}, ${speedup.high.toFixed(2)}]`;
  const judged = judgeFactor(speedup);
  if ('refused' in judged) {
    const text = `too uncertain${interval}`;
    return (text.length <= width ? text : `too uncertain ${cite(judged.refused)}`).padEnd(width);
  }
  const rate = 'refused' in throughput ? cite(throughput.refused) : formatValue(throughput);
  return `${speedup.value.toFixed(2)}x${interval}`.padEnd(FACTOR_WIDTH) + rate.padStart(RATE_WIDTH);
}

function forwardingTable(run: Run): Table | undefined {
  if (run.forwarding === null) return undefined;
  const { paths, differences, offeredRate } = run.forwarding;
  const difference = differences.find(({ subject }) => subject === 'write-forwarded');
  const known = (measured: Measured, cite: Cite): string =>
    'refused' in measured ? `refused ${cite(measured.refused)}` : formatMeasured(measured, 'us');
  return {
    head: [
      `Forwarding overhead (${run.forwarding.nodes} nodes, ${offeredRate}/s)`.padEnd(36) +
        ['p50', 'p90', 'CPU act.', 'CPU stby'].map((text) => text.padStart(11)).join(''),
    ],
    rows: [
      ...paths.map(({ id, response, activeCpuUs, standbyCpuUs }) => ({
        rank: id.startsWith('write') ? 2 : 1,
        draw: (cite: Cite) =>
          `  ${pathName(id).padEnd(34)}` +
          [response.p50, response.p90, activeCpuUs, standbyCpuUs]
            .map((each) => ('refused' in each ? cite(each.refused) : formatValue(each, 'us')))
            .map((text) => text.padStart(11))
            .join(''),
      })),
      ...(difference === undefined
        ? []
        : [
            {
              rank: 4,
              draw: (cite: Cite) =>
                `  forwarded - direct, median difference: ${known(difference.responseP50Us, cite)}`,
            },
            {
              rank: 3,
              draw: (cite: Cite) =>
                `    CPU: active ${known(difference.activeCpuUs, cite)}, standby ${known(difference.standbyCpuUs, cite)}`,
            },
          ]),
    ],
  };
}

function lagTable(run: Run): Table | undefined {
  if (run.lag === null) return undefined;
  const rows = run.lag.curves.flatMap(({ commitNotify, points }) => {
    const probed = points.filter(({ method }) => method === 'probe');
    const most = Math.max(...probed.map(({ writesPerSecond }) => writesPerSecond));
    return probed.map((point) => ({
      rank:
        (commitNotify === 'push' ? 1 : 0) +
        (point.writesPerSecond === 0 ? 4 : point.writesPerSecond === most ? 2 : 0),
      draw: (cite: Cite) => lagRow(commitNotify, point, cite),
    }));
  });
  return {
    head: [`Replication lag, acknowledged -> visible on every standby (${run.lag.nodes} nodes)`],
    rows,
  };
}

function lagRow(commitNotify: string, { writesPerSecond, upper }: LagPoint, cite: Cite): string {
  const load = writesPerSecond === 0 ? 'idle' : `${writesPerSecond} writes/s`;
  const [p50, p99] = [upper.p50, upper.p99].map((measured) =>
    'refused' in measured ? `refused ${cite(measured.refused)}` : formatBound(measured),
  );
  return `  ${commitNotify.padEnd(11)}${load.padEnd(16)}p50 ${(p50 ?? '').padEnd(16)}p99 ${p99}`;
}

function trustLines(run: Run, reasons: readonly string[]): string[] {
  const { environment: machine } = run;
  const failed = run.gates.filter(({ pass }) => !pass);
  const notes = reasons.map((reason, index) => `(${index + 1}) ${reason}`);
  return [
    ...(notes.length === 0 ? [] : wrap(`Refused: ${notes.join('; ')}`, '  ')),
    `Gates: ${run.gates.length - failed.length} of ${run.gates.length} passed`,
    // What a note has said already is not said again.
    ...failedByGate(failed.filter(({ reason }) => !reasons.includes(reason))).flatMap((line) =>
      wrap(`  ${line}`, '    '),
    ),
    ...wrap(
      `Machine: ${machine.cores} cores, others used ${formatNumber(machine.tenantCores)}; ` +
        `timer lag p99 ${formatUs(machine.timerLagP99Us)}, fsync p50 ${formatUs(machine.fsyncP50Us)}`,
      '  ',
    ),
  ];
}

/** One text for each kind of gate that failed, however often: the first case and how many more. */
function failedByGate(failed: readonly ScopedGate[]): string[] {
  const ids = [...new Set(failed.map(({ id }) => id))];
  return ids.flatMap((id) => {
    const [first, ...more] = failed.filter((gate) => gate.id === id);
    if (first === undefined) return [];
    const others = more.length === 0 ? '' : `; and ${more.length} more of this gate`;
    return [`failed ${first.scope}: ${first.reason}${others}`];
  });
}

function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  const lead = /^ */.exec(text)?.[0] ?? '';
  let line = lead;
  let isEmpty = true;
  for (const word of text.trim().split(' ').flatMap(pieces)) {
    if (!isEmpty && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = indent;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line];
}

/** What is too long for a line of its own, cut. */
function pieces(word: string): string[] {
  const most = WIDTH - 8;
  const count = Math.max(1, Math.ceil(word.length / most));
  return Array.from({ length: count }, (_, index) => word.slice(index * most, (index + 1) * most));
}
