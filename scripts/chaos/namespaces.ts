/**
 * A network namespace for each node, all on one bridge: peers reach each other only through it,
 * and a link is cut below TCP. A node is made to send a peer's packets to a hardware address that
 * nobody has: they are lost in silence, acknowledgements included.
 *
 * Needs the right to make namespaces (root); everything is removed again, on exit at the latest.
 */

import { spawnSync } from 'node:child_process';

import type { NodeSettings } from '../../bench/cluster/node-process.ts';
import type { Links } from './nemesis-partition.ts';
import type { Cut } from './partition.ts';

const NODES_MAX = 200;
const NOBODY = '02:00:00:00:00:99';

type Place = { readonly namespace: string; readonly host: string };

export class Namespaces implements Links {
  readonly #bridge: string;
  readonly #network: string;
  readonly #places = new Map<string, Place>();
  #cuts: readonly Cut[] = [];

  constructor(processId: number) {
    this.#bridge = `bao${processId}`;
    this.#network = `10.213.${processId % 250}`;
    process.once('exit', () => this.remove());
    ip('link', 'add', this.#bridge, 'type', 'bridge');
    ip('address', 'add', `${this.#network}.254/24`, 'dev', this.#bridge);
    ip('link', 'set', this.#bridge, 'up');
  }

  async place(settings: NodeSettings): Promise<NodeSettings> {
    const { namespace, host } = this.#places.get(settings.id) ?? this.#create(settings.id);
    const launcher = ['ip', 'netns', 'exec', namespace, process.execPath] as const;
    return { ...settings, host, launcher: [...launcher] };
  }

  #create(id: string): Place {
    const number = this.#places.size + 1;
    if (NODES_MAX < number) throw new RangeError(`at most ${NODES_MAX} namespaces`);
    const namespace = `${this.#bridge}-${number}`;
    const link = `${this.#bridge}v${number}`;
    const host = `${this.#network}.${number}`;
    ip('netns', 'add', namespace);
    this.#places.set(id, { namespace, host });
    ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    ip('link', 'set', link, 'master', this.#bridge, 'up');
    ip('-n', namespace, 'address', 'add', `${host}/24`, 'dev', 'eth0');
    ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    return { namespace, host };
  }

  cut(cuts: readonly Cut[]): void {
    this.#cuts = cuts;
    for (const cut of cuts)
      this.#neighbor(cut, ['replace'], ['lladdr', NOBODY, 'nud', 'permanent']);
  }

  mend(): void {
    for (const cut of this.#cuts) this.#neighbor(cut, ['del'], []);
    this.#cuts = [];
  }

  #neighbor({ from, to }: Cut, verb: readonly string[], rest: readonly string[]): void {
    const [source, target] = [this.#places.get(from), this.#places.get(to)];
    if (source === undefined || target === undefined) throw new Error(`no link ${from} ${to}`);
    ip('-n', source.namespace, 'neighbor', ...verb, target.host, 'dev', 'eth0', ...rest);
  }

  /** Processes inside must have ended. */
  remove(): void {
    for (const { namespace } of this.#places.values()) tryIp('netns', 'delete', namespace);
    this.#places.clear();
    tryIp('link', 'delete', this.#bridge);
  }
}

/** Undefined where this process may not make namespaces. */
export function createNamespaces(): Namespaces | undefined {
  const probe = `bao${process.pid}-probe`;
  const isPermitted = tryIp('netns', 'add', probe) && tryIp('netns', 'delete', probe);
  return isPermitted ? new Namespaces(process.pid) : undefined;
}

function ip(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${error?.message ?? stderr}`);
}

function tryIp(...args: readonly string[]): boolean {
  return spawnSync('ip', args, { stdio: 'ignore' }).status === 0;
}
