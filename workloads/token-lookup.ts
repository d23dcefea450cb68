import { headersOf } from './kv.ts';
import type { Workload } from './workload.ts';

/** Every request authenticates and asks about its own token: the token store and nothing else. */
export const tokenLookup: Workload = {
  name: 'token-lookup',
  claim: 'Agents that check the life left in their own tokens.',
  mount: undefined,
  keyspace: {
    keyCount: 256,
    distribution: 'uniform',
    valueBytes: { kind: 'fixed', bytes: 0 },
  },
  tokenCount: 256,
  preload: false,
  operations: [
    {
      name: 'lookup',
      weight: 1,
      writes: false,
      request: (setting, row) => ({
        method: 'GET',
        path: '/v1/auth/token/lookup-self',
        headers: headersOf(setting.readHeaders, row),
        body: undefined,
      }),
      verify: (_setting, _row, status, body) => status === 200 && body.includes('"accessor":"'),
    },
  ],
};
