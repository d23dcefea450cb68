import { createMemoryCluster } from '../testing/memory-physical.ts';
import { describePhysical } from '../testing/physical.contract.ts';
import { ReplicaCluster } from '../testing/replica-cluster.ts';

describePhysical('a replica', async () => {
  const cluster = await ReplicaCluster.formed(1);
  const { physical, changeFeed } = cluster.member('n1').replica;
  return { physical, changeFeed, close: () => cluster.close() };
});

describePhysical('its in-memory twin', async () => {
  const { physical, changeFeed } = createMemoryCluster().leader();
  return { physical, changeFeed, close: () => Promise.resolve() };
});
