/**
 * The summary at the end of a run: at most forty lines of eighty columns, readable without colour.
 */

import type { LagCurve, Run, ScalingPoint } from '../run.ts';
import {
  formatInterval,
  formatMeasured,
  formatUs,
  formatValue,
  modeName,
  pathName,
} from './format.ts';

export const SUMMARY_LINES_MAX = 40;
const WIDTH = 80;
const REFUSALS_SHOWN_MAX = 5;

/** Lines without line ends. */
export function renderSummary(run: Run): string[] {
  const lines = [
    ...wrap(`${run.verdict.status.toUpperCase()}: ${run.verdict.sentence}`),
    '',
    ...scalingLines(run),
    ...forwardingLines(run),
    ...lagLines(run),
    ...trustLines(run),
  ];
  return lines.slice(0, SUMMARY_LINES_MAX);
}

function scalingLines(run: Run): string[] {
  if (run.scaling === null) return [];
  const { isolation, quotaCores, series } = run.scaling;
  const quota =
    isolation === 'modelled'
      ? `modelled for ${quotaCores} core per node: no CPU groups here`
      : `${quotaCores} core per node`;
  return [
    `Throughput scaling, requests/s (${quota})`,
    ...series.flatMap(({ workload, points }) => [
      `  ${workload.padEnd(15)}${header(points)}`,
      ...(['standby-reads', 'baseline'] as const).map((mode) => {
        const cells = points.filter((point) => point.mode === mode).map((point) => cell(point));
        return `    ${mode.padEnd(13)}${cells.join('')}`;
      }),
    ]),
    '',
  ];
}

function header(points: readonly ScalingPoint[]): string {
  const counts = [...new Set(points.map(({ nodes }) => nodes))];
  return counts.map((count) => `N=${count}`.padStart(15)).join('');
}

function cell(point: ScalingPoint): string {
  if ('refused' in point.capacity) return 'refused'.padStart(15);
  const speedup = 'refused' in point.speedup ? '' : ` ${point.speedup.value.toFixed(2)}x`;
  return `${formatValue(point.capacity)}${speedup}`.padStart(15);
}

function forwardingLines(run: Run): string[] {
  if (run.forwarding === null) return [];
  const { paths, differences, offeredRate } = run.forwarding;
  const difference = differences.find(({ subject }) => subject === 'write-forwarded');
  return [
    `Forwarding overhead (${run.forwarding.nodes} nodes, ${offeredRate}/s)`.padEnd(39) +
      ['p50', 'p90', 'CPU act.', 'CPU stby'].map((text) => text.padStart(10)).join(''),
    ...paths.map(
      ({ id, response, activeCpuUs, standbyCpuUs }) =>
        `  ${pathName(id).padEnd(37)}` +
        [response.p50, response.p90, activeCpuUs, standbyCpuUs]
          .map((measured) => formatValue(measured, 'us').padStart(10))
          .join(''),
    ),
    ...(difference === undefined
      ? []
      : [
          `  forwarded - direct, paired p50: ${formatMeasured(difference.responseP50Us, 'us')}`.slice(
            0,
            WIDTH,
          ),
          `    CPU: active ${formatMeasured(difference.activeCpuUs, 'us')}, standby ${formatMeasured(difference.standbyCpuUs, 'us')}`,
        ]),
    '',
  ];
}

function lagLines(run: Run): string[] {
  if (run.lag === null) return [];
  return [
    `Replication lag, acknowledged -> visible on a standby (${run.lag.nodes} nodes)`,
    ...run.lag.curves.flatMap((curve) => lagCurveLines(curve)),
    '',
  ];
}

function lagCurveLines(curve: LagCurve): string[] {
  return curve.points
    .filter(({ method }) => method === 'probe')
    .map(({ writesPerSecond, upper }) => {
      const load = writesPerSecond === 0 ? 'idle' : `${writesPerSecond} writes/s`;
      return (
        `  ${curve.commitNotify.padEnd(10)} ${load.padEnd(14)}` +
        `p50 ${formatValue(upper.p50, 'us').padEnd(9)}${formatInterval(upper.p50, 'us').padEnd(22)}` +
        ` p99 ${formatValue(upper.p99, 'us')}`
      );
    });
}

function trustLines(run: Run): string[] {
  const failed = run.gates.filter(({ pass }) => !pass);
  const passed = run.gates.length - failed.length;
  return [
    `Gates: ${passed} of ${run.gates.length} passed` +
      `   timer lag p99 ${formatUs(run.environment.timerLagP99Us)},` +
      ` fsync p50 ${formatUs(run.environment.fsyncP50Us)}`,
    ...failed
      .slice(0, REFUSALS_SHOWN_MAX)
      .map((gate) => `  refused ${gate.scope}: ${gate.reason}`.slice(0, WIDTH)),
    ...(failed.length > REFUSALS_SHOWN_MAX
      ? [`  and ${failed.length - REFUSALS_SHOWN_MAX} more: see the report`]
      : []),
  ];
}

/** The status line names modes in full; wrapped at the width of the terminal twin. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.replaceAll('standby-reads', modeName('standby-reads')).split(' ')) {
    if (line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
