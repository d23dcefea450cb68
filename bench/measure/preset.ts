/** How long everything takes: the canonical run, a short one for CI, and a thorough one. */

import type { Mode } from '../run.ts';

export type Preset = {
  readonly name: 'canonical' | 'quick' | 'full';
  /** The sizes to which clusters grow, in order. */
  readonly nodeCounts: readonly number[];
  readonly workloads: readonly PresetWorkload[];
  readonly sliceMs: number;
  /** Of each new node by itself. */
  readonly warmupMs: number;
  readonly connectionsPerNode: number;
  readonly forwardingMs: number;
  readonly forwardingBlocksPerSecond: number;
  readonly forwardingCpuSliceMs: number;
  /** Other writes per second; 0 is an idle cluster. */
  readonly lagRates: readonly number[];
  /** Longer where the cluster is idle. */
  readonly lagMs: number;
};

export type WorkloadSize = {
  readonly nodes: number;
  /** Which mode each slice drives; what is compared is interleaved, and symmetric in time. */
  readonly order: readonly Mode[];
  readonly rounds: number;
};

const ABBA: readonly Mode[] = ['standby-reads', 'baseline', 'baseline', 'standby-reads'];
/** Twice as close a look at the mode that is in question. */
const AABBAA: readonly Mode[] = ['standby-reads', ...ABBA, 'standby-reads'];

export type PresetWorkload = {
  readonly name: string;
  /** At which sizes it is measured, and how closely: the largest answers the question. */
  readonly sizes: readonly WorkloadSize[];
};

const CANONICAL: Preset = {
  name: 'canonical',
  nodeCounts: [1, 2, 3, 5],
  workloads: [
    {
      name: 'read-only',
      sizes: [
        { nodes: 1, order: ABBA, rounds: 1 },
        { nodes: 2, order: ABBA, rounds: 1 },
        { nodes: 3, order: ABBA, rounds: 1 },
        { nodes: 5, order: AABBAA, rounds: 2 },
      ],
    },
    {
      name: 'blog-mix-wide',
      sizes: [{ nodes: 5, order: ABBA, rounds: 2 }],
    },
  ],
  sliceMs: 1_600,
  warmupMs: 2_000,
  connectionsPerNode: 8,
  forwardingMs: 6_000,
  forwardingBlocksPerSecond: 50,
  /** Two slices of three full intervals at least, of each path. */
  forwardingCpuSliceMs: 1_000,
  lagRates: [0, 100],
  lagMs: 2_000,
};

const PRESETS: { readonly [name in Preset['name']]: Preset } = {
  canonical: CANONICAL,
  quick: {
    ...CANONICAL,
    name: 'quick',
    nodeCounts: [1, 3],
    workloads: [
      {
        name: 'read-only',
        sizes: [
          { nodes: 1, order: ABBA, rounds: 1 },
          { nodes: 3, order: ABBA, rounds: 1 },
        ],
      },
    ],
    forwardingMs: 6_000,
    forwardingCpuSliceMs: 900,
    lagRates: [0, 50],
    lagMs: 1_000,
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
    ].map((name) => ({
      name,
      sizes: CANONICAL.nodeCounts.map((nodes) => ({ nodes, order: ABBA, rounds: 4 })),
    })),
    sliceMs: 2_000,
    forwardingMs: 60_000,
    forwardingCpuSliceMs: 2_000,
    lagRates: [0, 5, 20, 100, 400],
    lagMs: 15_000,
  },
};

export function findPreset(name: Preset['name']): Preset {
  return PRESETS[name];
}
