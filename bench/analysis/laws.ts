/**
 * The operational laws (Denning and Buzen 1978), as checks of our own books: they hold for any
 * system, so a mismatch is a fault of the measurement.
 */

export type LawCheck = {
  readonly expected: number;
  readonly measured: number;
  /** |measured - expected| / expected; compare with the gate of the law. */
  readonly mismatch: number;
};

/** U = X D: a node's busy share is its throughput times its demand. */
export function utilizationLaw(observed: {
  readonly utilization: number;
  readonly throughputPerSecond: number;
  readonly demandSeconds: number;
}): LawCheck {
  return check(observed.throughputPerSecond * observed.demandSeconds, observed.utilization);
}

/** L = X R: mean requests in flight, against throughput times mean time in flight. */
export function littlesLaw(observed: {
  readonly inFlightMean: number;
  readonly throughputPerSecond: number;
  readonly responseSeconds: number;
}): LawCheck {
  return check(observed.throughputPerSecond * observed.responseSeconds, observed.inFlightMean);
}

function check(expected: number, measured: number): LawCheck {
  const difference = Math.abs(measured - expected);
  return { expected, measured, mismatch: difference === 0 ? 0 : difference / Math.abs(expected) };
}
