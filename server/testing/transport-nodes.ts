/** Transports over loopback TLS without a replica behind them, for tests of what moves between. */

import type { Socket } from 'node:net';
import { createClusterCredentials } from '../cluster/credentials.ts';
import { createClusterNetwork } from '../cluster/listener.ts';
import type { ClusterNetwork } from '../cluster/listener.ts';
import type { ClusterCredentials } from '../core/ports.ts';
import type { Message, Server } from '../raft/message.ts';
import type { AppliedMembership } from '../replica/callers.ts';
import { systemClock } from '../replica/clock.ts';
import { Transport } from '../replica/transport.ts';

export type TransportNode = {
  readonly transport: Transport;
  readonly network: ClusterNetwork;
  readonly address: string;
  readonly received: Message[];
  readonly unreachable: string[];
  readonly accepted: Socket[];
  /** Lines about what was refused. */
  readonly refusals: object[];
  /** How often it was told that it has a successor. */
  readonly replaced: { readonly count: number };
  isReplaced(): Promise<void>;
  /** Resolves when so many messages have been received in all. */
  hasReceived(count: number): Promise<void>;
  /** Resolves at the next report of that kind. */
  isUnreachable(): Promise<void>;
};

export class TransportNodes {
  readonly credentials: ClusterCredentials;
  readonly #ends: (() => Promise<void>)[] = [];

  private constructor(credentials: ClusterCredentials) {
    this.credentials = credentials;
  }

  static async create(): Promise<TransportNodes> {
    return new TransportNodes(await createClusterCredentials());
  }

  async node(nodeId: string, addresses: Map<string, string>): Promise<TransportNode> {
    const serverOf = (id: string): Server | undefined => {
      const address = addresses.get(id);
      return address === undefined ? undefined : { id, address, suffrage: 'voter' };
    };
    return this.member(nodeId, diskOf(nodeId), { serverOf, appliedIndex: () => 0 });
  }

  /** A node of whose disk and configuration more is to be said. */
  async member(
    nodeId: string,
    instance: string,
    membership: AppliedMembership,
  ): Promise<TransportNode> {
    const refusals: object[] = [];
    const replaced = { count: 0 };
    const logger = { info() {}, warn: (fields: object) => refusals.push(fields), error() {} };
    const network = createClusterNetwork({ host: '127.0.0.1', port: 0, logger });
    const [received, unreachable, accepted]: [Message[], string[], Socket[]] = [[], [], []];
    const waiting = new Set<() => void>();
    const wake = (): void => {
      for (const check of waiting) check();
    };
    network.onConnection('bao-raft/1', (socket) => {
      accepted.push(socket);
      transport.accept(socket);
    });
    await network.listen(this.credentials);
    const address = `127.0.0.1:${network.port()}`;
    const transport = new Transport({
      clock: systemClock,
      clusterId: 'cluster',
      nodeId,
      instance,
      address,
      network,
      logger,
      membership,
      onMessage: (message) => {
        received.push(message);
        wake();
      },
      onUnreachable: (id) => {
        unreachable.push(id);
        wake();
      },
      onReplaced: () => {
        replaced.count += 1;
        wake();
      },
      onSnapshotConnection: () => undefined,
    });
    const until = (condition: () => boolean): Promise<void> =>
      new Promise((resolve) => {
        const check = (): void => {
          if (!condition()) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      });
    this.#ends.push(async () => {
      transport.close();
      await network.close();
    });
    return {
      ...{ transport, network, address, received, unreachable, accepted, refusals, replaced },
      isReplaced: () => until(() => replaced.count > 0),
      hasReceived: (count) => until(() => count <= received.length),
      isUnreachable: () => {
        const before = unreachable.length;
        return until(() => before < unreachable.length);
      },
    };
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }
}

/** Of a node that has only ever had one. */
export function diskOf(nodeId: string): string {
  return `${nodeId}-disk`;
}

export function heartbeat(from: string, to: string, leaderCommit: number): Message {
  const rounds = { round: 1, freshRound: 0, freshIndex: 0 };
  return { kind: 'heartbeat', from, to, term: 1, leaderCommit, ...rounds };
}

export function appendOf(from: string, to: string, bytes: number): Message {
  const entries = [{ index: 1, term: 1, kind: 'command' as const, command: Buffer.alloc(bytes) }];
  const previous = { prevLogIndex: 0, prevLogTerm: 0, leaderCommit: 0 };
  return { kind: 'appendEntries', from, to, term: 1, ...previous, entries };
}
