/** A proxy before the cluster port of every node, and the state of each directed link. */

import type { NodeSettings } from '../../bench/cluster/node-process.ts';
import type { Random } from '../../server/testing/random.ts';
import type { Links } from './nemesis-partition.ts';
import type { Cut } from './partition.ts';
import { findSocketOwner } from './socket-owner.ts';
import { SOUND, TcpProxy, type LinkFaults } from './tcp-proxy.ts';

export class ProxiedNetwork implements Links {
  readonly #random: Random;
  /** Of the last process of each node: it is the one that may dial. */
  readonly #processIds = new Map<string, number>();
  readonly #proxies = new Map<string, { readonly proxy: TcpProxy; readonly port: number }>();
  readonly #faults = new Map<string, LinkFaults>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Peers are told the address of the proxy. */
  async place(settings: NodeSettings): Promise<NodeSettings> {
    const { id, host, clusterPort, server } = settings;
    const known = this.#proxies.get(id) ?? (await this.#open(id, host, clusterPort));
    this.#proxies.set(id, known);
    return {
      ...settings,
      server: { ...server, cluster_addr: `https://${host}:${known.port}` },
      onSpawn: (processId) => this.#processIds.set(id, processId),
    };
  }

  async #open(
    name: string,
    host: string,
    port: number,
  ): Promise<{ readonly proxy: TcpProxy; readonly port: number }> {
    const proxy = new TcpProxy(
      { name, host, port },
      {
        random: this.#random,
        faults: (from, to) => this.#faults.get(linkName({ from, to })) ?? SOUND,
        nameOf: (from) => this.#dialler(from),
      },
    );
    return { proxy, port: await proxy.listen() };
  }

  #dialler(port: number): string {
    const owner = findSocketOwner(port, [...this.#processIds.values()]);
    const found = [...this.#processIds].find(([, processId]) => processId === owner);
    return found?.[0] ?? 'nobody';
  }

  cut(cuts: readonly Cut[]): void {
    for (const link of cuts) this.#faults.set(linkName(link), { ...SOUND, isCut: true });
  }

  /** On every link from and to a node. */
  disturb(id: string, faults: Partial<LinkFaults>): void {
    for (const other of this.#proxies.keys()) {
      this.#faults.set(linkName({ from: id, to: other }), { ...SOUND, ...faults });
      this.#faults.set(linkName({ from: other, to: id }), { ...SOUND, ...faults });
    }
  }

  mend(): void {
    this.#faults.clear();
  }

  /** Ends every connection to a node. */
  reset(id: string): void {
    this.#proxies.get(id)?.proxy.resetAll();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#proxies.values()].map(({ proxy }) => proxy.close()));
  }
}

function linkName({ from, to }: Cut): string {
  return `${from} ${to}`;
}
