/** Where raft and the cluster port live: in this thread, or in one of their own. */

import type { ForwardingListener } from './cluster/forwarding.ts';
import { createClusterNetwork } from './cluster/listener.ts';
import type { ClusterNetwork, ClusterNetworkOptions } from './cluster/listener.ts';
import type { EventLoopDelay } from './event-loop-delay.ts';
import { createInlineRaft } from './replica/inline-raft.ts';
import type { InlineRaftOptions } from './replica/inline-raft.ts';
import type { RaftHost } from './replica/raft-host.ts';
import type { ReplicaStorage } from './replica/replica-storage.ts';

export type NodeNetwork = Omit<ClusterNetwork, 'onConnection'> & ForwardingListener;

export type RaftParts = Omit<InlineRaftOptions, 'network' | 'storage' | 'random'> & {
  readonly storage: ReplicaStorage;
};

export type RaftPlace = {
  readonly network: NodeNetwork;
  /** To be called once. */
  raft(parts: RaftParts): RaftHost;
  /** Of raft's thread, if it is not this one. */
  eventLoopDelay(): EventLoopDelay | undefined;
  /** After the replica and the network are closed. */
  close(): Promise<void>;
};

export function inlineRaftPlace(options: ClusterNetworkOptions): RaftPlace {
  const network = createClusterNetwork(options);
  return {
    network,
    raft: (parts) => createInlineRaft({ ...parts, network, random: Math.random }),
    eventLoopDelay: () => undefined,
    close: () => Promise.resolve(),
  };
}
