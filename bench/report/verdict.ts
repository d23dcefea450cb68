/**
 * The one sentence that answers the question, and whether it can be trusted. Said only of figures
 * that no gate has refused; what is missing is named instead.
 */

import type { LagPoint, Run, ScalingPoint, Verdict } from '../run.ts';
import { formatInterval, formatUs, formatValue } from './format.ts';

export function judge(run: Omit<Run, 'verdict'>): Verdict {
  const parts = [scalingPart(run), forwardingPart(run), lagPart(run)];
  const said = parts.flatMap((part) => (part === undefined || part.refused ? [] : [part.text]));
  const missing = parts.flatMap((part) => (part?.refused ? [part.text] : []));
  const failed = run.gates.filter((gate) => !gate.pass);
  const isInvalid = said.length === 0 || failed.some((gate) => gate.effect === 'invalidate-run');
  return {
    status: isInvalid ? 'invalid' : failed.length + missing.length > 0 ? 'partly-refused' : 'valid',
    sentence: [...said, ...missing].join('; ') + '.',
  };
}

type Part = { readonly text: string; readonly refused: boolean };

function scalingPart(run: Omit<Run, 'verdict'>): Part | undefined {
  const series = run.scaling?.series[0];
  if (series === undefined) return undefined;
  const best = largest(series.points.filter((point) => point.mode === 'standby-reads'));
  const baseline = largest(series.points.filter((point) => point.mode === 'baseline'));
  if (best === undefined || baseline === undefined) return undefined;
  if ('refused' in best.speedup) {
    return { refused: true, text: `no scaling figure (${best.speedup.refused})` };
  }
  return {
    refused: false,
    text:
      `${best.nodes} nodes with standby reads carry ${formatValue(best.speedup)}×` +
      `${formatInterval(best.speedup)} the ${series.workload} load of one node, ` +
      `a single-leader cluster of ${baseline.nodes} carries ${formatValue(baseline.speedup)}×`,
  };
}

function forwardingPart(run: Omit<Run, 'verdict'>): Part | undefined {
  const difference = run.forwarding?.differences.find(
    ({ subject }) => subject === 'write-forwarded',
  );
  if (difference === undefined) return undefined;
  const { responseP50Us, activeCpuUs, standbyCpuUs } = difference;
  if ('refused' in responseP50Us) {
    return { refused: true, text: `no forwarding figure (${responseP50Us.refused})` };
  }
  const cpu =
    'refused' in activeCpuUs || 'refused' in standbyCpuUs
      ? ''
      : ` and ${formatUs(activeCpuUs.value + standbyCpuUs.value)} of CPU`;
  return {
    refused: false,
    text: `a forwarded write costs ${formatUs(responseP50Us.value)}${formatInterval(responseP50Us, 'us')}${cpu} more than a direct one`,
  };
}

function lagPart(run: Omit<Run, 'verdict'>): Part | undefined {
  const point = isolatedPush(run);
  if (point === undefined) return undefined;
  const { p50, p99 } = point.upper;
  if ('refused' in p50) return { refused: true, text: `no lag figure (${p50.refused})` };
  const tail = 'refused' in p99 ? '' : ` and ${formatUs(p99.value)} at p99`;
  return {
    refused: false,
    text: `a write is visible on every standby within ${formatUs(p50.value)} at p50${tail}`,
  };
}

export function isolatedPush(run: Pick<Run, 'lag'>): LagPoint | undefined {
  return run.lag?.curves
    .find(({ commitNotify }) => commitNotify === 'push')
    ?.points.find(({ writesPerSecond, method }) => writesPerSecond === 0 && method === 'probe');
}

function largest(points: readonly ScalingPoint[]): ScalingPoint | undefined {
  return points.reduce<ScalingPoint | undefined>(
    (best, point) => (best === undefined || point.nodes > best.nodes ? point : best),
    undefined,
  );
}
