/**
 * What N nodes can carry, predicted from the demands of single operations.
 *
 * Per request of a mix with write share w and read share r = 1 - w, spread evenly over N nodes, the
 * nodes spend CPU as follows (N U / X for utilization U at throughput X):
 *
 *     active:   A + (N - 1) w (D_w + D_fl) + N (N - 1) w D_rl          A = r D_r + w D_w
 *     standby:  r D_r + w D_fs + N w D_ra
 *
 * The active node's side is the Universal Scalability Law, C(N) = N / (1 + sigma (N - 1) +
 * kappa N (N - 1)), with coefficients that have a physical meaning and can be known before a
 * third node is started: sigma = w (D_w + D_fl) / A, kappa = w D_rl / A.
 */

import assert from 'node:assert/strict';

/** CPU microseconds per operation. */
export type ScalingDemands = {
  /** A read, on the node that serves it (D_r). */
  readonly read: number;
  /** A write, on the active node (D_w). */
  readonly write: number;
  /** Replicating one write to one follower, on the active node (D_rl). */
  readonly replicate: number;
  /** Applying one replicated write, on a standby (D_ra). */
  readonly apply: number;
  /** Forwarding one write, on the standby (D_fs). */
  readonly forward: number;
  /** Taking in one forwarded write, on the active node, beyond the write itself (D_fl). */
  readonly takeForwarded: number;
};

export type ScalingModel = {
  readonly sigma: number;
  readonly kappa: number;
  /** Nodes beyond which the active node's side goes down again; infinite without writes. */
  readonly peakNodes: number;
  /** Speed-up over one node, bound by the active node or the standbys, whichever is first. */
  speedup(nodeCount: number): number;
  /** The same where standbys forward everything to the active node. */
  baselineSpeedup(nodeCount: number): number;
  /** Requests per second of `nodeCount` nodes with `quotaCores` of CPU each. */
  capacityPerSecond(nodeCount: number, quotaCores: number): number;
};

export function scalingModel(demands: ScalingDemands, writeShare: number): ScalingModel {
  assert(0 <= writeShare && writeShare <= 1, `write share must lie in [0, 1]: ${writeShare}`);
  const w = writeShare;
  const r = 1 - w;
  const alone = r * demands.read + w * demands.write;
  assert(0 < alone, 'a request must cost something');
  const sigma = (w * (demands.write + demands.takeForwarded)) / alone;
  const kappa = (w * demands.replicate) / alone;

  const speedup = (nodeCount: number): number => {
    assertNodes(nodeCount);
    const n = nodeCount;
    const active = n / (1 + sigma * (n - 1) + kappa * n * (n - 1));
    if (n === 1) return active;
    const standby = (n * alone) / (r * demands.read + w * demands.forward + w * n * demands.apply);
    return Math.min(active, standby);
  };
  return {
    sigma,
    kappa,
    peakNodes: kappa === 0 ? Number.POSITIVE_INFINITY : Math.sqrt(Math.max(0, 1 - sigma) / kappa),
    speedup,
    baselineSpeedup: (nodeCount) => {
      assertNodes(nodeCount);
      const others = nodeCount - 1;
      const forwardedShare = others / nodeCount;
      const active =
        alone + w * others * demands.replicate + forwardedShare * demands.takeForwarded;
      return alone / active;
    },
    capacityPerSecond: (nodeCount, quotaCores) => (speedup(nodeCount) * quotaCores * 1e6) / alone,
  };
}

function assertNodes(nodeCount: number): void {
  assert(Number.isInteger(nodeCount) && 1 <= nodeCount, `no cluster of ${nodeCount} nodes`);
}
