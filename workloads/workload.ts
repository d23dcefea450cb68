/**
 * What a workload says: what is mounted, what is stored before, what is asked, and how an answer is
 * known to be right. Its file is its claim: the name and the doc comment say what it models.
 *
 * A workload is data plus two functions per operation. It knows nothing of clusters, drivers, or
 * histograms; `prepare.ts` sets it up on a cluster, `bind` ties it to what was set up.
 */

import type { Request } from '../bench/load/exchange.ts';
import type { PlannedOperation, PlannedWorkload } from '../bench/load/plan.ts';
import { createRandom } from '../bench/random.ts';
import { keyChooser, type KeyDistribution } from './keys.ts';

/** Length of the random text from which values are cut. */
const FILLER_BYTES = 1 << 16;

export type ValueSize =
  | { readonly kind: 'fixed'; readonly bytes: number }
  | { readonly kind: 'uniform'; readonly bytesMin: number; readonly bytesMax: number };

export type Keyspace = {
  readonly keyCount: number;
  readonly distribution: KeyDistribution;
  /** Length of the stored value, markers included. */
  readonly valueBytes: ValueSize;
};

export type Workload = {
  readonly name: string;
  /** One sentence: what this load stands for. */
  readonly claim: string;
  /** What to mount; nothing where the workload needs only what every node has. */
  readonly mount: { readonly type: string; readonly options: Record<string, string> } | undefined;
  readonly keyspace: Keyspace;
  /** Service tokens to create; requests take them in turn by key. */
  readonly tokenCount: number;
  /** Whether each key is written once before the load. */
  readonly preload: boolean;
  readonly operations: readonly Operation[];
};

export type Operation = PlannedOperation & {
  request(setting: Setting, row: Row): Request;
  /** Whether `status` and `body` are a right answer. Runs for every answer: no parsing. */
  verify(setting: Setting, row: Row, status: number, body: Buffer): boolean;
};

/** One request of a plan. */
export type Row = {
  readonly key: number;
  readonly valueBytes: number;
  /** Number of the write; with `Setting.writer` it identifies a value. */
  readonly seq: number;
};

/** What `prepare` has set up. */
export type Setting = {
  /** Without slashes at its ends; empty where nothing is mounted. */
  readonly mountPath: string;
  /** Distinguishes the values of one phase from those of another. */
  readonly writer: string;
  /** Header lists of the tokens, for requests without and with a body. */
  readonly readHeaders: readonly (readonly string[])[];
  readonly writeHeaders: readonly (readonly string[])[];
  /** Incompressible text, as encryption would not let a server profit from a compressible one. */
  readonly filler: string;
};

export function createSetting(options: {
  seed: number;
  mountPath: string;
  writer: string;
  tokens: readonly string[];
}): Setting {
  return {
    mountPath: options.mountPath,
    writer: options.writer,
    readHeaders: options.tokens.map((token) => ['x-vault-token', token]),
    writeHeaders: options.tokens.map((token) => [
      'x-vault-token',
      token,
      'content-type',
      'application/json',
    ]),
    filler: randomText(options.seed),
  };
}

/** A workload as the drivers use it: the plan's columns in, requests and verdicts out. */
export type BoundWorkload = PlannedWorkload & {
  readonly operations: readonly Operation[];
  request(operation: number, row: Row): Request;
  verify(operation: number, row: Row, status: number, body: Buffer): boolean;
};

export function bind(workload: Workload, setting: Setting): BoundWorkload {
  const { operations, keyspace } = workload;
  const at = (operation: number): Operation => {
    const found = operations[operation];
    if (found === undefined) throw new RangeError(`no operation ${operation} in ${workload.name}`);
    return found;
  };
  return {
    operations,
    chooseKeys: (random) => keyChooser(keyspace.distribution, keyspace.keyCount, random),
    chooseValueBytes: (random) => {
      const size = keyspace.valueBytes;
      if (size.kind === 'fixed') return () => size.bytes;
      return () => size.bytesMin + random.below(size.bytesMax - size.bytesMin + 1);
    },
    request: (operation, row) => at(operation).request(setting, row),
    verify: (operation, row, status, body) => at(operation).verify(setting, row, status, body),
  };
}

/** Returns the same workload over other keys and values. */
export function withKeyspace(workload: Workload, keyspace: Keyspace): Workload {
  return { ...workload, keyspace };
}

export function keyName(key: number): string {
  return `k${String(key).padStart(6, '0')}`;
}

/**
 * Returns the JSON of a value: `{"key":"k000001","seq":7,"writer":"w","value":"..."}`. Key, seq, and
 * writer let any reader tell whose value it got, and which.
 */
export function valueBody(setting: Setting, row: Row): string {
  const head = `{"key":"${keyName(row.key)}","seq":${row.seq},"writer":"${setting.writer}","value":"`;
  const fillerBytes = Math.max(0, row.valueBytes - head.length - 2);
  const start = (row.seq * 97 + row.key * 31) % (FILLER_BYTES / 2);
  return `${head}${fillerOf(setting.filler, start, fillerBytes)}"}`;
}

function fillerOf(filler: string, start: number, length: number): string {
  if (start + length <= filler.length) return filler.slice(start, start + length);
  return filler.repeat(Math.ceil((start + length) / filler.length)).slice(start, start + length);
}

/** Returns the number after `"seq":` in a stored value, or undefined. */
export function seqOf(body: Buffer): number | undefined {
  const start = body.indexOf('"seq":');
  if (start < 0) return undefined;
  const seq = Number.parseInt(body.toString('latin1', start + 6, start + 22), 10);
  return Number.isNaN(seq) ? undefined : seq;
}

function randomText(seed: number): string {
  const random = createRandom(seed, 'value');
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  let text = '';
  for (let index = 0; index < FILLER_BYTES; index++) text += letters[random.below(64)] ?? '';
  return text;
}
