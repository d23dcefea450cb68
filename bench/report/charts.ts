/**
 * The figures of the report, as SVG text. Drawn by Observable Plot on a document without a
 * browser. Colours are CSS variables of the page, so one figure serves light and dark; series are
 * told apart by colour and by dash or symbol, so that it also prints.
 */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

import type { Forwarding, Lag, Mode, ScalingSeries } from '../run.ts';
import { formatUs, modeName, pathName, valueOf } from './format.ts';
import { cumulativeOf, spectrumOf } from './spectrum.ts';

const WIDTH = 560;
const HEIGHT = 320;
const MARGINS = { marginLeft: 64, marginRight: 24, marginTop: 24, marginBottom: 44 };

const MODE_COLOURS: { readonly [mode in Mode]: string } = {
  'standby-reads': 'var(--series-1)',
  baseline: 'var(--series-2)',
};

const PATH_COLOURS = {
  'read-active': 'var(--series-1)',
  'read-standby': 'var(--series-3)',
  'write-active': 'var(--series-2)',
  'write-forwarded': 'var(--series-4)',
} as const;

const NOTIFY_COLOURS = { push: 'var(--series-1)', piggyback: 'var(--series-2)' } as const;

/** Capacity over cluster size, both modes, with intervals; hollow points did not saturate. */
export function scalingChart(series: ScalingSeries): string {
  const points = series.points.flatMap((point) => {
    const capacity = valueOf(point.capacity);
    if (capacity === undefined || 'refused' in point.capacity) return [];
    const { low = capacity, high = capacity } = point.capacity;
    return [{ ...point, value: capacity, low, high, colour: MODE_COLOURS[point.mode] }];
  });
  const single = points.find(({ nodes, mode }) => nodes === 1 && mode === 'standby-reads');
  const counts = [...new Set(series.points.map(({ nodes }) => nodes))];
  const ideal =
    single === undefined ? [] : counts.map((nodes) => ({ nodes, value: nodes * single.value }));
  const last = Math.max(...counts);

  return svg({
    x: {
      label: 'nodes →',
      ticks: counts,
      tickFormat: (count: number) => String(count),
      domain: [0.7, last + 0.5],
    },
    y: { label: '↑ capacity, requests/s', grid: true, zero: true, nice: true },
    marks: [
      Plot.ruleY([0]),
      Plot.line(ideal, { x: 'nodes', y: 'value', stroke: 'var(--muted)', strokeDasharray: '2 4' }),
      Plot.ruleX(points, { x: 'nodes', y1: 'low', y2: 'high', stroke: 'colour', strokeWidth: 2 }),
      Plot.line(
        points.filter(({ isHollow }) => !isHollow),
        {
          x: 'nodes',
          y: 'value',
          z: 'mode',
          stroke: 'colour',
          strokeWidth: 2,
        },
      ),
      Plot.dot(points, {
        x: 'nodes',
        y: 'value',
        r: 4.5,
        stroke: 'colour',
        strokeWidth: 2,
        fill: (point: (typeof points)[number]) =>
          point.isHollow ? 'var(--surface)' : point.colour,
      }),
      Plot.text(ideal.slice(-1), {
        x: 'nodes',
        y: 'value',
        text: () => 'ideal',
        dy: -10,
        fill: 'var(--muted)',
      }),
    ],
  });
}

/** Response solid, service dashed, one colour per path. */
export function spectrumChart(forwarding: Forwarding): string {
  const lines = forwarding.paths.flatMap((path) =>
    (['response', 'service'] as const).map((clock) => ({
      clock,
      colour: PATH_COLOURS[path.id],
      points: spectrumOf(path[clock]),
    })),
  );
  const largest = Math.max(10, ...lines.flatMap(({ points }) => points.map(({ nines }) => nines)));
  const ticks = [1, 2, 10, 100, 1_000, 10_000].filter((nines) => nines <= largest);
  return svg({
    x: {
      type: 'log',
      label: 'percentile →',
      domain: [1, largest],
      ticks,
      tickFormat: (nines: number) => (nines === 1 ? '0' : `p${+(100 - 100 / nines).toFixed(2)}`),
    },
    y: { type: 'log', label: '↑ ms', grid: true, tickFormat: (ms: number) => String(ms) },
    marks: lines.map(({ points, colour, clock }) =>
      Plot.line(points, {
        x: 'nines',
        y: 'ms',
        stroke: colour,
        strokeWidth: clock === 'response' ? 2 : 1.25,
        ...(clock === 'service' ? { strokeDasharray: '4 3' } : {}),
      }),
    ),
  });
}

/** CPU of the active node and of the standby per operation, stacked, one bar per path. */
export function forwardingCpuChart(forwarding: Forwarding): string {
  const bars = forwarding.paths.flatMap(({ id, activeCpuUs, standbyCpuUs }) => [
    { path: pathName(id), us: valueOf(activeCpuUs) ?? 0, colour: 'var(--series-1)' },
    { path: pathName(id), us: valueOf(standbyCpuUs) ?? 0, colour: 'var(--series-3)' },
  ]);
  const order = forwarding.paths.map(({ id }) => pathName(id));
  return svg({
    height: 220,
    marginLeft: 180,
    x: { label: 'CPU µs per operation →', grid: true, zero: true },
    y: { label: null, domain: order },
    marks: [
      Plot.barX(bars, Plot.stackX({ y: 'path', x: 'us', fill: 'colour', order: null, inset: 1 })),
      Plot.ruleX([0]),
    ],
  });
}

/** p50 (solid) and p99 (dashed) of the lag over the rate of other writes. */
export function lagChart(lag: Lag): string {
  const rates = [
    ...new Set(
      lag.curves.flatMap(({ points }) => points.map(({ writesPerSecond }) => writesPerSecond)),
    ),
  ].toSorted((a, b) => a - b);
  const lines = lag.curves.flatMap(({ commitNotify, points }) =>
    (['p50', 'p99'] as const).map((quantile) => ({
      colour: NOTIFY_COLOURS[commitNotify],
      quantile,
      points: points
        .filter(({ method }) => method === 'probe')
        .flatMap(({ writesPerSecond, upper }) => {
          const us = valueOf(upper[quantile]);
          return us === undefined ? [] : [{ rate: rateName(writesPerSecond), ms: us / 1_000 }];
        }),
    })),
  );
  return svg({
    x: {
      type: 'point',
      label: 'other writes per second →',
      domain: rates.map((rate) => rateName(rate)),
    },
    y: {
      type: 'log',
      label: '↑ ms until visible',
      grid: true,
      tickFormat: (ms: number) => String(ms),
    },
    marks: lines.flatMap(({ points, colour, quantile }) => [
      Plot.line(points, {
        x: 'rate',
        y: 'ms',
        stroke: colour,
        strokeWidth: 2,
        ...(quantile === 'p99' ? { strokeDasharray: '4 3' } : {}),
      }),
      Plot.dot(points, { x: 'rate', y: 'ms', fill: colour, r: 3.5 }),
      Plot.text(points.slice(-1), {
        x: 'rate',
        y: 'ms',
        text: () => quantile,
        dx: 14,
        fill: colour,
      }),
    ]),
  });
}

/** Share of isolated writes visible after t: upper bounds solid, lower bounds dashed. */
export function lagDistributionChart(lag: Lag): string {
  const lines = lag.curves.flatMap(({ commitNotify, points }) =>
    points
      .filter(({ method, writesPerSecond }) => method === 'probe' && writesPerSecond === 0)
      .flatMap(({ perNode }) =>
        perNode.flatMap(({ upper, lower }) => [
          { colour: NOTIFY_COLOURS[commitNotify], dash: undefined, points: cumulativeOf(upper) },
          {
            colour: NOTIFY_COLOURS[commitNotify],
            dash: '3 3',
            points: lower === null ? [] : cumulativeOf(lower),
          },
        ]),
      ),
  );
  return svg({
    x: { type: 'log', label: 'ms after acknowledgement →', tickFormat: (ms: number) => String(ms) },
    y: { label: '↑ share of writes visible', grid: true, domain: [0, 1], tickFormat: '%' },
    marks: lines.map(({ points, colour, dash }) =>
      Plot.line(points, {
        x: 'ms',
        y: 'share',
        stroke: colour,
        strokeWidth: dash === undefined ? 1.75 : 1,
        ...(dash === undefined ? {} : { strokeDasharray: dash }),
      }),
    ),
  });
}

export type LegendItem = {
  readonly label: string;
  readonly colour: string;
  readonly dashed?: boolean;
};

export const SCALING_LEGEND: readonly LegendItem[] = [
  ...(['standby-reads', 'baseline'] as const).map((mode) => ({
    label: modeName(mode),
    colour: MODE_COLOURS[mode],
  })),
  { label: 'ideal: N × one node', colour: 'var(--muted)', dashed: true },
];

export const PATH_LEGEND: readonly LegendItem[] = (
  ['read-active', 'read-standby', 'write-active', 'write-forwarded'] as const
).map((path) => ({ label: pathName(path), colour: PATH_COLOURS[path] }));

export const CPU_LEGEND: readonly LegendItem[] = [
  { label: 'active node', colour: 'var(--series-1)' },
  { label: 'the standby asked', colour: 'var(--series-3)' },
];

export const LAG_LEGEND: readonly LegendItem[] = [
  { label: 'commit index pushed', colour: NOTIFY_COLOURS.push },
  { label: 'piggybacked on the next append', colour: NOTIFY_COLOURS.piggyback },
];

function rateName(rate: number): string {
  return rate === 0 ? 'idle' : String(rate);
}

/** Intervals and values of a chart in words, for its alternative text. */
export function lagCaption(lag: Lag): string {
  return lag.curves
    .flatMap(({ commitNotify, points }) =>
      points
        .filter(({ method, writesPerSecond }) => method === 'probe' && writesPerSecond === 0)
        .map(({ upper }) => {
          const p50 = valueOf(upper.p50);
          return `${commitNotify}: p50 ${p50 === undefined ? 'refused' : formatUs(p50)} on an idle cluster`;
        }),
    )
    .join('; ');
}

function svg(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<html><body></body></html>');
  const figure = Plot.plot({
    // linkedom implements what Plot uses of a document.
    document: document as unknown as NonNullable<Plot.PlotOptions['document']>,
    width: WIDTH,
    height: HEIGHT,
    ...MARGINS,
    style: { background: 'transparent', color: 'currentColor', fontSize: '12px' },
    ...options,
  });
  return figure.outerHTML;
}
