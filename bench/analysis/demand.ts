/**
 * Service demand: CPU seconds that a node spends per operation. On a shared machine it repeats
 * within a few per cent where throughput wanders by twenty, so capacity is quota / demand.
 *
 * With one class of operations demand is a division. With several it is a regression over slices of
 * a phase in which the mix was varied on purpose:
 *
 *     CPU = b dt + sum over classes k of n_k D_k,    D_k >= 0
 */

import type { Random } from '../random.ts';
import { bootstrapIntervals } from './bootstrap.ts';
import { judgeGate, type Measured } from './gates.ts';
import { conditionNumber, nonNegativeLeastSquares } from './least-squares.ts';

/** Slices per unknown. */
const SLICES_PER_UNKNOWN = 10;

/** Slices drawn together in the bootstrap: neighbors share their noise. */
const BLOCK_SLICES = 5;

/** CPU and completions of one node over one stretch of time. */
export type DemandSlice = {
  readonly elapsedSeconds: number;
  readonly cpuSeconds: number;
  /** Completions per class. */
  readonly counts: readonly number[];
};

/**
 * Returns CPU per completion over all slices in microseconds, idle CPU (`idleCpuShare`, cores used
 * at zero load) subtracted, classes not told apart.
 */
export function meanDemandUs(options: {
  slices: readonly DemandSlice[];
  idleCpuShare: number;
  random: Random;
}): Measured {
  const { slices, idleCpuShare, random } = options;
  const perCompletion = (units: readonly DemandSlice[]): number => {
    const cpu = units.reduce((sum, slice) => sum + slice.cpuSeconds, 0);
    const elapsed = units.reduce((sum, slice) => sum + slice.elapsedSeconds, 0);
    const count = units.reduce((sum, slice) => sum + total(slice.counts), 0);
    return ((cpu - idleCpuShare * elapsed) / count) * 1e6;
  };
  if (slices.length < SLICES_PER_UNKNOWN) {
    return { refused: `needs ${SLICES_PER_UNKNOWN} slices, has ${slices.length}` };
  }
  const completions = slices.reduce((sum, slice) => sum + total(slice.counts), 0);
  if (completions === 0) return { refused: 'no completions' };

  const [interval] = bootstrapIntervals({
    units: slices,
    statistics: (units) => [perCompletion(units)],
    blockLength: BLOCK_SLICES,
    random,
  });
  return {
    value: perCompletion(slices),
    unit: 'us',
    ...(interval === undefined ? {} : { low: interval.low, high: interval.high }),
    samples: slices.length,
  };
}

export type DemandFit = {
  /** Per class, in the order of the counts. */
  readonly demandsUs: readonly Measured[];
  /** CPU share at zero load, from the fit. */
  readonly idleCpuShare: Measured;
  readonly conditionNumber: number;
  /** Share of the variance of CPU that the fit explains. */
  readonly rSquared: number;
  /** Measured minus fitted CPU seconds, per slice. */
  readonly residuals: readonly number[];
};

/** Fits the demand of each class; refuses where the mix was not varied enough to tell them apart. */
export function fitDemands(slices: readonly DemandSlice[], random: Random): DemandFit {
  const classCount = slices[0]?.counts.length ?? 0;
  const needed = SLICES_PER_UNKNOWN * (classCount + 1);
  const rows = slices.map(rowOf);
  const condition = conditionNumber(rows);
  const gate = judgeGate('demand-fit', condition);
  const refused =
    slices.length < needed
      ? `needs ${needed} slices, has ${slices.length}`
      : gate.pass
        ? undefined
        : gate.reason;

  const solution = solve(slices);
  const residuals = slices.map((slice) => slice.cpuSeconds - fitted(slice, solution));
  const intervals =
    refused === undefined
      ? bootstrapIntervals({ units: slices, statistics: solve, blockLength: BLOCK_SLICES, random })
      : [];
  const measured = (column: number, unit: string, scale: number): Measured => {
    if (refused !== undefined) return { refused };
    const { low, high } = intervals[column] ?? { low: Number.NaN, high: Number.NaN };
    return {
      value: (solution[column] ?? 0) * scale,
      unit,
      low: low * scale,
      high: high * scale,
      samples: slices.length,
    };
  };
  return {
    demandsUs: Array.from({ length: classCount }, (_, index) => measured(index + 1, 'us', 1e6)),
    idleCpuShare: measured(0, 'cores', 1),
    conditionNumber: condition,
    rSquared: rSquared(
      slices.map((slice) => slice.cpuSeconds),
      residuals,
    ),
    residuals,
  };
}

function solve(slices: readonly DemandSlice[]): number[] {
  return nonNegativeLeastSquares(
    slices.map(rowOf),
    slices.map((slice) => slice.cpuSeconds),
  );
}

function rowOf(slice: DemandSlice): number[] {
  return [slice.elapsedSeconds, ...slice.counts];
}

function fitted(slice: DemandSlice, solution: readonly number[]): number {
  return rowOf(slice).reduce((sum, value, column) => sum + value * (solution[column] ?? 0), 0);
}

function rSquared(values: readonly number[], residuals: readonly number[]): number {
  const mean = total(values) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const unexplained = residuals.reduce((sum, residual) => sum + residual ** 2, 0);
  return variance === 0 ? 0 : 1 - unexplained / variance;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
