/** Least squares with non-negative coefficients, for a handful of unknowns. */

import assert from 'node:assert/strict';

/** More unknowns than any fit of ours has; all their subsets are tried. */
const COLUMNS_MAX = 12;

const JACOBI_SWEEPS = 50;

/**
 * Returns the coefficients x >= 0 that minimize |A x - b|, `rows` being the rows of A.
 *
 * The optimum is the ordinary solution over some subset of the columns, the others being zero. With
 * few columns every subset can be tried, which needs no iteration and no tolerance.
 */
export function nonNegativeLeastSquares(
  rows: readonly (readonly number[])[],
  targets: readonly number[],
): number[] {
  const columnCount = rows[0]?.length ?? 0;
  assert(0 < columnCount, 'a fit needs an unknown');
  assert(columnCount <= COLUMNS_MAX, `too many unknowns: ${columnCount}`);
  assert(rows.length === targets.length, 'as many targets as rows');
  const scales = columnScales(rows);
  const gram = gramMatrix(rows, scales);
  const moments = scales.map((scale, column) =>
    rows.reduce((sum, row, index) => sum + ((row[column] ?? 0) / scale) * (targets[index] ?? 0), 0),
  );

  let best = scales.map(() => 0);
  let bestGain = 0;
  for (let subset = 1; subset < 2 ** columnCount; subset++) {
    const columns = scales.flatMap((_, column) => (((subset >> column) & 1) === 1 ? [column] : []));
    const solution = solveSymmetric(
      columns.map((row) => columns.map((column) => gram[row]?.[column] ?? 0)),
      columns.map((column) => moments[column] ?? 0),
    );
    if (solution === undefined || solution.some((value) => value < 0)) continue;
    // |b|^2 - |A x - b|^2 of a least squares solution is x . A'b.
    const gain = columns.reduce(
      (sum, column, index) => sum + (solution[index] ?? 0) * (moments[column] ?? 0),
      0,
    );
    if (gain <= bestGain) continue;
    bestGain = gain;
    best = scales.map(() => 0);
    for (const [index, column] of columns.entries()) best[column] = solution[index] ?? 0;
  }
  return best.map((value, column) => value / (scales[column] ?? 1));
}

/**
 * Returns the condition number of the matrix after scaling its columns to length one: how much
 * noise in the targets is amplified in the coefficients. Infinite for dependent columns.
 */
export function conditionNumber(rows: readonly (readonly number[])[]): number {
  if (rows.length === 0) return Number.POSITIVE_INFINITY;
  const eigenvalues = symmetricEigenvalues(gramMatrix(rows, columnScales(rows)));
  const largest = Math.max(...eigenvalues);
  const smallest = Math.min(...eigenvalues);
  return smallest <= largest * 1e-14 ? Number.POSITIVE_INFINITY : Math.sqrt(largest / smallest);
}

function columnScales(rows: readonly (readonly number[])[]): number[] {
  return (rows[0] ?? []).map(
    (_, column) => Math.sqrt(rows.reduce((sum, row) => sum + (row[column] ?? 0) ** 2, 0)) || 1,
  );
}

function gramMatrix(rows: readonly (readonly number[])[], scales: readonly number[]): number[][] {
  return scales.map((leftScale, left) =>
    scales.map((rightScale, right) =>
      rows.reduce(
        (sum, row) => sum + ((row[left] ?? 0) / leftScale) * ((row[right] ?? 0) / rightScale),
        0,
      ),
    ),
  );
}

/** Gaussian elimination with pivoting; undefined for a singular matrix. */
function solveSymmetric(matrix: number[][], right: number[]): number[] | undefined {
  const size = right.length;
  const rows = matrix.map((row, index) => [...row, right[index] ?? 0]);
  for (let column = 0; column < size; column++) {
    const candidates = rows.slice(column).map((row) => Math.abs(row[column] ?? 0));
    const pivot = column + candidates.indexOf(Math.max(...candidates));
    const pivotRow = rows[pivot];
    if (pivotRow === undefined || Math.abs(pivotRow[column] ?? 0) < 1e-12) return undefined;
    rows[pivot] = rows[column] ?? [];
    rows[column] = pivotRow;
    for (const [index, row] of rows.entries()) {
      if (index === column) continue;
      const factor = (row[column] ?? 0) / (pivotRow[column] ?? 1);
      rows[index] = row.map((value, at) => value - factor * (pivotRow[at] ?? 0));
    }
  }
  return rows.map((row, index) => (row[size] ?? 0) / (row[index] ?? 1));
}

/** Jacobi rotations. */
function symmetricEigenvalues(matrix: number[][]): number[] {
  const size = matrix.length;
  const a = matrix.map((row) => Float64Array.from(row));
  const at = (row: number, column: number): number => a[row]?.[column] ?? 0;
  const set = (row: number, column: number, value: number): void => {
    const found = a[row];
    if (found !== undefined) found[column] = value;
  };
  for (let sweep = 0; sweep < JACOBI_SWEEPS; sweep++) {
    let rotated = false;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        if (Math.abs(at(p, q)) < 1e-15) continue;
        rotated = true;
        const theta = (at(q, q) - at(p, p)) / (2 * at(p, q));
        const tangent = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cosine = 1 / Math.hypot(tangent, 1);
        const sine = tangent * cosine;
        for (let k = 0; k < size; k++) {
          const [left, right] = [at(k, p), at(k, q)];
          set(k, p, cosine * left - sine * right);
          set(k, q, sine * left + cosine * right);
        }
        for (let k = 0; k < size; k++) {
          const [left, right] = [at(p, k), at(q, k)];
          set(p, k, cosine * left - sine * right);
          set(q, k, sine * left + cosine * right);
        }
      }
    }
    if (!rotated) break;
  }
  return a.map((row, index) => row[index] ?? 0);
}
