/** All that `replica.test.ts` asks of a replica, with raft at the other end of a port. */

import { runRaftIn } from '../testing/replica-cluster.ts';

runRaftIn('channel');
await import('./replica.test.ts');
await import('./snapshot.test.ts');
await import('./linearizable-reads.test.ts');
