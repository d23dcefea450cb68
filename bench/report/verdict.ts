/**
 * The one sentence that answers the question, and whether it can be trusted. Said only of figures
 * that are not refused; what is missing is named instead, with the reason.
 */

import type { Measured } from '../analysis/gates.ts';
import type { LagPoint, Run, ScalingPoint, Verdict } from '../run.ts';
import { formatInterval, formatMeasured, formatUs, judgeFactor } from './format.ts';

export function judge(run: Omit<Run, 'verdict'>): Verdict {
  const fatal = run.gates.find((gate) => !gate.pass && gate.effect === 'invalidate-run');
  if (fatal !== undefined) {
    const where = `${fatal.reason} (${fatal.scope})`;
    return { status: 'invalid', sentence: `No figure of this run can be believed: ${where}.` };
  }
  const parts = [...scalingParts(run), ...forwardingParts(run), ...lagParts(run)];
  const said = parts.flatMap((part) => ('said' in part ? [part.said] : []));
  const missing = parts.flatMap((part) => ('missing' in part ? [part.missing] : []));
  const isWhole = missing.length === 0 && run.gates.every((gate) => gate.pass);
  return {
    status: said.length === 0 ? 'invalid' : isWhole ? 'valid' : 'partly-refused',
    sentence: parts.length === 0 ? 'Nothing was measured.' : [...said, ...missing].join('; ') + '.',
  };
}

type Part = { readonly said: string } | { readonly missing: string };

function scalingParts(run: Omit<Run, 'verdict'>): Part[] {
  const series = run.scaling?.series[0];
  if (series === undefined) return [];
  const carried = `the ${series.workload} load of one node`;
  const best = largest(series.points.filter((point) => point.mode === 'standby-reads'));
  const baseline = largest(series.points.filter((point) => point.mode === 'baseline'));
  const subjects = [
    { point: best, verb: 'carry', name: `${best?.nodes} nodes with standby reads` },
    { point: baseline, verb: 'carries', name: `a single-leader cluster of ${baseline?.nodes}` },
  ];
  let isLoadNamed = false;
  return subjects.flatMap(({ point, verb, name }): Part[] => {
    if (point === undefined) return [];
    const factor = judgeFactor(point.speedup);
    if ('refused' in factor) return [{ missing: `no factor for ${name} (${factor.refused})` }];
    const load = isLoadNamed ? '' : ` ${carried}`;
    isLoadNamed = true;
    return [{ said: `${name} ${verb} ${formatFactor(factor)}${load}` }];
  });
}

function formatFactor(factor: Extract<Measured, { value: number }>): string {
  return `${formatMeasured({ value: factor.value, unit: 'ratio' })}×${formatInterval(factor)}`;
}

function forwardingParts(run: Omit<Run, 'verdict'>): Part[] {
  const difference = run.forwarding?.differences.find(
    ({ subject }) => subject === 'write-forwarded',
  );
  if (difference === undefined) return [];
  const { responseP50Us: response } = difference;
  const cpu = sumOf(difference.activeCpuUs, difference.standbyCpuUs);
  const costs = [
    ...('refused' in response ? [] : [`${formatMeasured(response, 'us')} (median difference)`]),
    ...('refused' in cpu ? [] : [`${formatMeasured(cpu, 'us')} of CPU`]),
  ];
  return [
    ...(costs.length === 0
      ? []
      : [{ said: `a forwarded write costs ${costs.join(' and ')} more than a direct one` }]),
    ...('refused' in response
      ? [{ missing: `no response time of forwarding (${response.refused})` }]
      : []),
    ...('refused' in cpu ? [{ missing: `no CPU cost of forwarding (${cpu.refused})` }] : []),
  ];
}

/**
 * The interval adds the ends of both. That is exact for figures that err together and too wide for
 * all others; the two nodes are measured in the same slices.
 */
function sumOf(a: Measured, b: Measured): Measured {
  if ('refused' in a) return a;
  if ('refused' in b) return b;
  const hasInterval =
    a.low !== undefined && a.high !== undefined && b.low !== undefined && b.high !== undefined;
  return {
    value: a.value + b.value,
    unit: a.unit,
    ...(hasInterval ? { low: a.low + b.low, high: a.high + b.high } : {}),
  };
}

function lagParts(run: Omit<Run, 'verdict'>): Part[] {
  const point = isolatedPush(run);
  if (point === undefined) return [];
  const { p50, p99 } = point.upper;
  if ('refused' in p50) return [{ missing: `no lag (${p50.refused})` }];
  const tail =
    'refused' in p99 ? ` (no p99: ${p99.refused})` : ` and ${formatUs(p99.value)} or less at p99`;
  return [
    {
      said: `a write is visible on every standby within ${formatUs(p50.value)} or less at p50${tail}`,
    },
  ];
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
