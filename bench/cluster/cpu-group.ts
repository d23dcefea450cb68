/**
 * A CPU quota of its own for every node, so that one machine can stand for N equal hosts.
 *
 * Linux control groups, version 1 (`cpu` and `cpuacct`, together or apart) or 2. The period is
 * 10 ms: with the default of 100 ms the throttling itself would show as latencies of 27 ms. Where
 * groups cannot be made, callers measure demand without a quota and label the result "modelled".
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export const QUOTA_PERIOD_US = 10_000;

export type Throttling = { readonly periods: number; readonly throttled: number };

export type CpuGroup = {
  add(processId: number): void;
  /** In cores, for example 0.15; null lifts the quota. */
  setQuota(cores: number | null): void;
  usageNs(): number;
  throttling(): Throttling;
  /** Only after every process in it has ended. */
  remove(): void;
};

export type CpuGroupKind = 'cgroup-v1' | 'cgroup-v2';
export type CpuGroups = {
  readonly kind: CpuGroupKind;
  /** `suffix` distinguishes the groups of this process. */
  create(suffix: string): CpuGroup;
};
type Candidate = CpuGroups & { removeStale(): void };

const GROUP_PREFIX = 'baobench';

function groupName(suffix: string): string {
  return `${GROUP_PREFIX}-${process.pid}-${suffix}`;
}

/** Undefined where this process may not make groups. */
export function detectCpuGroups(): CpuGroups | undefined {
  for (const candidate of [version1(), version2()]) {
    if (candidate === undefined) continue;
    candidate.removeStale();
    const probe = tryTo(() => candidate.create('probe'));
    if (probe === undefined) continue;
    const works = tryTo(() => {
      probe.setQuota(0.5);
      probe.usageNs();
      probe.throttling();
      return true;
    });
    tryTo(() => probe.remove());
    if (works) return candidate;
  }
  return undefined;
}

function version1(): Candidate | undefined {
  const cpu = mountOf((type, options) => type === 'cgroup' && options.includes('cpu'));
  const accounting = mountOf((type, options) => type === 'cgroup' && options.includes('cpuacct'));
  if (cpu === undefined || accounting === undefined) return undefined;
  return {
    kind: 'cgroup-v1',
    removeStale: () => [cpu, accounting].forEach(removeStaleGroups),
    create(suffix) {
      const name = groupName(suffix);
      const cpuFolder = join(cpu, name);
      const accountingFolder = join(accounting, name);
      const folders = [...new Set([cpuFolder, accountingFolder])];
      for (const folder of folders) mkdirSync(folder);
      writeFileSync(join(cpuFolder, 'cpu.cfs_period_us'), String(QUOTA_PERIOD_US));
      return {
        add: (processId) => {
          for (const folder of folders) {
            writeFileSync(join(folder, 'cgroup.procs'), String(processId));
          }
        },
        setQuota: (cores) =>
          writeFileSync(
            join(cpuFolder, 'cpu.cfs_quota_us'),
            cores === null ? '-1' : String(Math.round(cores * QUOTA_PERIOD_US)),
          ),
        usageNs: () => Number(readFileSync(join(accountingFolder, 'cpuacct.usage'), 'utf8')),
        throttling: () => readThrottling(join(cpuFolder, 'cpu.stat')),
        remove: () => {
          for (const folder of folders) rmdirSync(folder);
        },
      };
    },
  };
}

function version2(): Candidate | undefined {
  const root = mountOf((type) => type === 'cgroup2');
  if (root === undefined) return undefined;
  return {
    kind: 'cgroup-v2',
    removeStale: () => removeStaleGroups(root),
    create(suffix) {
      tryTo(() => writeFileSync(join(root, 'cgroup.subtree_control'), '+cpu'));
      const folder = join(root, groupName(suffix));
      mkdirSync(folder);
      return {
        add: (processId) => writeFileSync(join(folder, 'cgroup.procs'), String(processId)),
        setQuota: (cores) => {
          const quota = cores === null ? 'max' : String(Math.round(cores * QUOTA_PERIOD_US));
          writeFileSync(join(folder, 'cpu.max'), `${quota} ${QUOTA_PERIOD_US}`);
        },
        usageNs: () => 1000 * (readStat(join(folder, 'cpu.stat')).get('usage_usec') ?? 0),
        throttling: () => readThrottling(join(folder, 'cpu.stat')),
        remove: () => rmdirSync(folder),
      };
    },
  };
}

/** A run that was killed could not remove its groups; they are empty as soon as its nodes are gone. */
function removeStaleGroups(root: string): void {
  for (const name of tryTo(() => readdirSync(root)) ?? []) {
    const [, processId] = new RegExp(`^${GROUP_PREFIX}-(\\d+)-`).exec(name) ?? [];
    if (processId === undefined) continue;
    // A namesake of this process is dead, too: nothing has been made yet.
    if (Number(processId) !== process.pid && existsSync(`/proc/${processId}`)) continue;
    tryTo(() => rmdirSync(join(root, name)));
  }
}

function mountOf(matches: (type: string, options: string[]) => boolean): string | undefined {
  const table = tryTo(() => readFileSync('/proc/self/mountinfo', 'utf8')) ?? '';
  for (const line of table.split('\n')) {
    // "36 35 98:0 /root /mount/point rw,... - type source super,options"
    const [left, right] = line.split(' - ');
    const mountPoint = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    if (
      mountPoint !== undefined &&
      type !== undefined &&
      matches(type, options?.split(',') ?? [])
    ) {
      return mountPoint;
    }
  }
  return undefined;
}

function readThrottling(file: string): Throttling {
  const stat = readStat(file);
  return { periods: stat.get('nr_periods') ?? 0, throttled: stat.get('nr_throttled') ?? 0 };
}

function readStat(file: string): Map<string, number> {
  const entries = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line): [string, number] => {
      const [key, value] = line.split(' ');
      return [key ?? '', Number(value)];
    });
  return new Map(entries);
}

/** Absence of a right or a file is an answer here, not a failure. */
function tryTo<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
