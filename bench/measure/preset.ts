/** How long everything takes: the canonical run, a short one for CI, and a thorough one. */

export type Preset = {
  readonly name: 'canonical' | 'quick' | 'full';
  readonly nodeCounts: readonly number[];
  readonly workloads: readonly string[];
  readonly sliceMs: number;
  /** Slices of each mode at each size, taken in the order A B B A. */
  readonly slicesPerMode: 2 | 4;
  /** Before a node counts as warm, for each workload. */
  readonly warmupRequestsPerNode: number;
  readonly warmupMsMax: number;
  readonly connectionsPerNode: number;
  readonly forwardingMs: number;
  readonly forwardingBlocksPerSecond: number;
  readonly forwardingCpuSliceMs: number;
  /** Other writes per second; 0 is an idle cluster. */
  readonly lagRates: readonly number[];
  readonly lagMs: number;
};

const CANONICAL: Preset = {
  name: 'canonical',
  nodeCounts: [1, 2, 3, 5],
  workloads: ['read-only', 'blog-mix-wide'],
  sliceMs: 1_250,
  slicesPerMode: 2,
  warmupRequestsPerNode: 10_000,
  warmupMsMax: 10_000,
  connectionsPerNode: 8,
  forwardingMs: 10_000,
  forwardingBlocksPerSecond: 60,
  forwardingCpuSliceMs: 1_000,
  lagRates: [0, 10, 100],
  lagMs: 5_000,
};

const PRESETS: { readonly [name in Preset['name']]: Preset } = {
  canonical: CANONICAL,
  quick: {
    ...CANONICAL,
    name: 'quick',
    nodeCounts: [1, 3],
    workloads: ['read-only'],
    sliceMs: 1_000,
    warmupMsMax: 6_000,
    forwardingMs: 4_000,
    forwardingCpuSliceMs: 500,
    lagRates: [0, 50],
    lagMs: 2_000,
  },
  full: {
    ...CANONICAL,
    name: 'full',
    workloads: [
      'read-only',
      'read-mostly',
      'blog-mix-wide',
      'update-heavy',
      'token-lookup',
      'list',
    ],
    sliceMs: 2_000,
    slicesPerMode: 4,
    forwardingMs: 60_000,
    forwardingCpuSliceMs: 2_000,
    lagRates: [0, 5, 20, 100, 400],
    lagMs: 30_000,
  },
};

export function findPreset(name: Preset['name']): Preset {
  return PRESETS[name];
}
