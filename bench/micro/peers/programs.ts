/** Targets that programs of their own measure: what they print, as rows. */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { Measured } from '../../analysis/gates.ts';
import { TARGETS, type Row } from './target.ts';

const SIMULATE = programAt('server/testing/simulate.js');
const SATURATE = programAt('scripts/saturation.js');
const MINUTE_MS = 60_000;
/** Beside the load: a cluster is started and asked. */
const AROUND_MS = 2 * MINUTE_MS;
const SIMULATION_MS = 10 * MINUTE_MS;

/** P12; an hour is what the target speaks of. */
export function measureSaturation(minutes: string | undefined): Row {
  const target = TARGETS.P12;
  if (minutes === undefined) {
    const measured = { refused: 'ask with --saturation 60' };
    return { target, tls: true, measured };
  }
  const timeout = Number(minutes) * MINUTE_MS + AROUND_MS;
  const args = ['--minutes', minutes, '--json'];
  const { leaderChanges } = run(SATURATE, args, timeout) as { readonly leaderChanges: number };
  const claim = `${target.claim}, ${minutes} min`;
  return { target: { ...target, claim }, tls: true, measured: count(leaderChanges) };
}

/** P16. With fewer than some hundred seeds half of the time goes to warming up. */
export function measureSimulator(seeds: number): Row[] {
  return [
    { target: TARGETS.P16a, tls: undefined, measured: simulated('core', seeds) },
    { target: TARGETS.P16b, tls: undefined, measured: simulated('node', seeds) },
  ];
}

function simulated(world: 'core' | 'node', seeds: number): Measured {
  const args = ['--world', world, '--seeds', String(seeds), '--json'];
  const { rate, failures } = run(SIMULATE, args, SIMULATION_MS) as {
    readonly rate: number;
    readonly failures: readonly unknown[];
  };
  if (failures.length > 0) return { refused: `${failures.length} seeds failed` };
  return { value: rate, unit: 'per-second', samples: seeds };
}

function count(value: number): Measured {
  return { value, unit: 'count' };
}

/** What it prints as JSON, whatever its exit code says. */
function run(program: string, args: readonly string[], timeout: number): unknown {
  try {
    return JSON.parse(execFileSync(process.execPath, [program, ...args], { timeout }).toString());
  } catch (error) {
    const printed = (error as { readonly stdout?: Buffer }).stdout?.toString() ?? '';
    if (printed === '') throw error;
    return JSON.parse(printed);
  }
}

function programAt(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}
