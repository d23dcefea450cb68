/**
 * The figures of the report, as SVG text. Drawn by Observable Plot on a document without a
 * browser. Colours are CSS variables of the page, so one figure serves light and dark; series are
 * told apart by colour and by dash or symbol, so that it also prints.
 */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

import type { Forwarding, Lag, Mode, ScalingSeries } from '../run.ts';
import { formatBound, judgeFactor, modeName, pathName, valueOf } from './format.ts';
import { cumulativeOf, spectrumOf } from './spectrum.ts';

const WIDTH = 560;
const HEIGHT = 320;
const MARGINS = { marginLeft: 64, marginRight: 24, marginTop: 24, marginBottom: 44 };

/** Intervals of the two modes stand beside each other, this far from their number of nodes. */
const DODGE = 0.04;
const CAP = 0.05;
/** Where the axis of nodes begins. */
const FIRST = 0.5;
const Y_ROOM = 1.08;

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

/**
 * The factor over cluster size, both modes, with intervals, beside the ideal line y = N. Of a
 * factor too uncertain to be a number only the interval is drawn, as far as it fits.
 */
export function scalingChart(series: ScalingSeries): string {
  const counts = [...new Set(series.points.map(({ nodes }) => nodes))];
  const last = Math.max(...counts);
  const points = series.points.flatMap((point) => {
    const { speedup, mode, nodes } = point;
    if ('refused' in speedup) return [];
    const { value, low = value, high = value } = speedup;
    const isCertain = !('refused' in judgeFactor(speedup));
    const side = mode === 'baseline' ? 1 : -1;
    return [
      {
        mode,
        nodes,
        at: nodes + side * DODGE,
        value,
        low,
        high,
        isCertain,
        colour: MODE_COLOURS[mode],
      },
    ];
  });
  const certain = points.filter(({ isCertain }) => isCertain);
  const top = Y_ROOM * Math.max(last, ...certain.map(({ high }) => high));
  const uncertain = points
    .filter(({ isCertain }) => !isCertain)
    .map((point) => ({ ...point, low: Math.min(point.low, top), high: Math.min(point.high, top) }));
  const caps = certain.flatMap(({ at, low, high, colour }) =>
    [low, high].map((end) => ({ from: at - CAP, to: at + CAP, end, colour })),
  );
  const ideal = [FIRST, last].map((nodes) => ({ nodes, value: nodes }));
  const bar = { x: 'at', y1: 'low', y2: 'high', stroke: 'colour' } as const;

  return svg({
    x: {
      label: 'nodes →',
      ticks: counts,
      tickFormat: (count: number) => String(count),
      domain: [FIRST, last + 0.5],
    },
    y: { label: '↑ times the load of one node', grid: true, domain: [0, top] },
    marks: [
      Plot.ruleY([0]),
      Plot.line(ideal, { x: 'nodes', y: 'value', stroke: 'var(--muted)', strokeDasharray: '2 4' }),
      Plot.ruleX(certain, { ...bar, strokeWidth: 1.5 }),
      Plot.link(caps, { x1: 'from', x2: 'to', y1: 'end', y2: 'end', stroke: 'colour' }),
      Plot.ruleX(uncertain, { ...bar, strokeWidth: 1.5, strokeDasharray: '5 3' }),
      Plot.line(certain, { x: 'at', y: 'value', z: 'mode', stroke: 'colour', strokeWidth: 1.5 }),
      Plot.dot(certain, { x: 'at', y: 'value', r: 3, fill: 'colour' }),
      Plot.text([{ nodes: last, value: last }], {
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

/** CPU of the active node and of the standby per operation, stacked; no bar without both. */
export function forwardingCpuChart(forwarding: Forwarding): string {
  const bars = forwarding.paths.flatMap(({ id, activeCpuUs, standbyCpuUs }) => {
    const [active, standby] = [valueOf(activeCpuUs), valueOf(standbyCpuUs)];
    if (active === undefined || standby === undefined) return [];
    return [
      { path: pathName(id), us: active, colour: 'var(--series-1)' },
      { path: pathName(id), us: standby, colour: 'var(--series-3)' },
    ];
  });
  const refused = forwarding.paths
    .map(({ id }) => ({ path: pathName(id) }))
    .filter(({ path }) => !bars.some((bar) => bar.path === path));
  const order = forwarding.paths.map(({ id }) => pathName(id));
  return svg({
    height: 220,
    marginLeft: 180,
    x: { label: 'CPU µs per operation →', grid: true, zero: true },
    y: { label: null, domain: order },
    marks: [
      Plot.barX(bars, Plot.stackX({ y: 'path', x: 'us', fill: 'colour', order: null, inset: 1 })),
      Plot.text(refused, { x: 0, y: 'path', text: () => 'refused', dx: 6, textAnchor: 'start' }),
      Plot.ruleX([0]),
    ],
  });
}

/** p50 (solid) and p99 (dashed) of the lag's upper bound over the rate of other writes. */
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
      label: '↑ ms until visible, at most',
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
  { label: 'too uncertain: interval only', colour: MODE_COLOURS['standby-reads'], dashed: true },
  { label: 'ideal: N nodes, N times the load', colour: 'var(--muted)', dashed: true },
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
        .map(({ upper: { p50 } }) => {
          const bound = 'refused' in p50 ? `refused (${p50.refused})` : formatBound(p50);
          return `${commitNotify}: p50 ${bound} on an idle cluster`;
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
