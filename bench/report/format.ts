/**
 * Figures as words, the same in the terminal and on the page: three significant digits, a unit
 * that fits, the interval beside the value, and the reason where there is no value.
 */

import type { Measured } from '../analysis/gates.ts';

/** Three significant digits, thousands grouped: 0.0123, 4.56, 789, 12 300. */
export function formatNumber(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1_000) {
    const rounded = Number(value.toPrecision(3));
    return rounded.toFixed(0).replaceAll(/\B(?=(\d{3})+$)/g, ' ');
  }
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(6, decimals));
}

/** Microseconds in the unit that reads best. */
export function formatUs(us: number): string {
  const size = Math.abs(us);
  if (size >= 1_000_000) return `${formatNumber(us / 1_000_000)} s`;
  if (size >= 1_000) return `${formatNumber(us / 1_000)} ms`;
  return `${formatNumber(us)} µs`;
}

export function formatMeasured(measured: Measured, as: 'number' | 'us' = 'number'): string {
  if ('refused' in measured) return `refused: ${measured.refused}`;
  return `${formatValue(measured, as)}${formatInterval(measured, as)}`;
}

/** The value alone, or a dash for a refused one. */
export function formatValue(measured: Measured, as: 'number' | 'us' = 'number'): string {
  if ('refused' in measured) return '–';
  return as === 'us' ? formatUs(measured.value) : formatNumber(measured.value);
}

/** ` [low, high]`, or nothing where there is no interval. */
export function formatInterval(measured: Measured, as: 'number' | 'us' = 'number'): string {
  if ('refused' in measured || measured.low === undefined || measured.high === undefined) return '';
  const format = as === 'us' ? formatUs : formatNumber;
  return ` [${format(measured.low)}, ${format(measured.high)}]`;
}

/** A factor whose 95 % interval ends are further apart than this is not given as a number. */
export const FACTOR_SPREAD_MAX = 2;

/** The factor as it may be shown: refused, with its interval as the reason, if it is too uncertain. */
export function judgeFactor(factor: Measured): Measured {
  if ('refused' in factor || factor.low === undefined || factor.high === undefined) return factor;
  const isUncertain = factor.low <= 0 || factor.high / factor.low > FACTOR_SPREAD_MAX;
  return isUncertain ? { refused: `too uncertain${formatInterval(factor)}` } : factor;
}

/** A duration that is known from above only. */
export function formatBound(measured: Measured): string {
  return 'refused' in measured ? '–' : `≤ ${formatUs(measured.value)}`;
}

export function valueOf(measured: Measured): number | undefined {
  return 'refused' in measured ? undefined : measured.value;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

const MODE_NAMES = {
  'standby-reads': 'standby reads',
  baseline: 'single-leader baseline',
} as const;

export function modeName(mode: keyof typeof MODE_NAMES): string {
  return MODE_NAMES[mode];
}

const PATH_NAMES = {
  'read-active': 'read, active node',
  'read-standby': 'read, standby (local)',
  'write-active': 'write, active node',
  'write-forwarded': 'write, standby (forwarded)',
} as const;

export function pathName(path: keyof typeof PATH_NAMES): string {
  return PATH_NAMES[path];
}
