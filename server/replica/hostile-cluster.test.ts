/** A cluster at work while its port is under attack: nothing that it promised gives way. */

import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { createClusterCredentials } from '../cluster/credentials.ts';
import type { Message } from '../raft/message.ts';
import { getAt, put, ReplicaCluster } from '../testing/replica-cluster.ts';
import type { ClusterMember } from '../testing/replica-cluster.ts';
import { encodeControl } from './control-frames.ts';
import type { Hello } from './control-frames.ts';
import { encodeMessage } from './wire.ts';

let cluster: ReplicaCluster;
const sockets = new Set<Socket>();

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await cluster.close();
});

function held<T extends Socket>(socket: T): T {
  sockets.add(socket);
  socket.on('error', () => undefined);
  socket.on('close', () => sockets.delete(socket));
  socket.resume();
  return socket;
}

/** Somebody who holds the certificate says something to a member. */
async function say(to: ClusterMember, parts: readonly Buffer[]): Promise<void> {
  const socket = held(await to.network.dial(`127.0.0.1:${to.network.port()}`, 'bao-raft/1'));
  socket.write(Buffer.concat(parts));
}

function hello(to: string, change: Partial<Hello> = {}): Buffer[] {
  const good = { kind: 'hello', purpose: 'control', clusterId: cluster.clusterId() } as const;
  const parties = { from: 'n9', fromInstance: 'x', to, toInstance: '' };
  const address = '127.0.0.1:1';
  return encodeControl({ ...good, ...parties, memberIndex: 0, address, ...change });
}

/** Writes for as long as `attack` takes; every one of them must be acknowledged and stay. */
async function withstands(attack: (members: readonly ClusterMember[]) => Promise<void>) {
  cluster = await ReplicaCluster.formed(3);
  const leader = await cluster.leader();
  const { term } = leader.replica.status();
  const over = new AbortController();
  const writing = (async (): Promise<number> => {
    let index = 0;
    for (let number = 0; !over.signal.aborted || number < 20; number += 1) {
      index = await put(leader, `k/${number % 50}`, String(number));
    }
    return index;
  })();
  await attack(cluster.members());
  over.abort();
  const index = await writing;
  const found = await Promise.all(cluster.members().map((each) => getAt(each, 'k/0', index)));
  const hashes = await Promise.all(cluster.members().map(({ replica }) => replica.stateHash()));
  return {
    isWritten: found.every((value) => value !== undefined),
    failures: cluster.members().flatMap(({ failures }) => failures),
    terms: new Set(cluster.members().map(({ replica }) => replica.status().term)),
    expectedTerm: term,
    hashCount: new Set(hashes).size,
  };
}

/** Nobody noticed: the same leader, the same state, and every write. */
function unharmed({ expectedTerm }: { readonly expectedTerm: number }): object {
  return {
    isWritten: true,
    failures: [],
    terms: new Set([expectedTerm]),
    expectedTerm,
    hashCount: 1,
  };
}

test('strangers: no certificate, another one, plain text, silence, many at once', async () => {
  const other = await createClusterCredentials();
  const outcome = await withstands(async (members) => {
    for (const { network } of members) {
      const target = { host: '127.0.0.1', port: network.port() };
      const closed: Promise<unknown>[] = [];
      for (let count = 0; count < 30; count += 1) {
        const plain = held(connectTcp(target));
        plain.write('GET / HTTP/1.1\r\n\r\n');
        const { certificatePem: cert, privateKeyPem: key } = other;
        const protocols = { ALPNProtocols: ['bao-raft/1'], rejectUnauthorized: false };
        const foreign = held(connectTls({ ...target, ...protocols, cert, key }));
        const nobody = held(connectTls({ ...target, ...protocols }));
        for (const socket of [plain, foreign, nobody]) {
          closed.push(new Promise((resolve) => socket.on('close', resolve)));
        }
        // Holds its place without a word; it is pushed out by those that follow.
        held(connectTcp(target));
      }
      await Promise.all(closed);
    }
  });
  expect(outcome).toEqual(unharmed(outcome));
});

test('holders of the certificate: another cluster, garbage, cut and endless frames', async () => {
  const outcome = await withstands(async (members) => {
    for (const to of members) {
      const rows = [
        [hello(to.id, { clusterId: 'x' })],
        [hello('n7')],
        [hello(to.id), [Buffer.from('ffffff7f00', 'hex')]],
        [hello(to.id), [Buffer.alloc(64 * 1024, 0xa5)]],
        [hello(to.id, { from: 'n8', purpose: 'bulk' }), [Buffer.from('0000f00001', 'hex')]],
        [hello(to.id, { from: 'n7', purpose: 'snapshot' }), [Buffer.alloc(100, 1)]],
      ];
      for (const parts of rows) await say(to, parts.flat());
      for (let count = 0; count < 50; count += 1) {
        await say(to, hello(to.id, { from: `stranger-${count}` }));
      }
    }
  });
  expect(outcome).toEqual(unharmed(outcome));
});

test('a member that lies: as another one, as an unknown leader, with frames that were said before', async () => {
  const outcome = await withstands(async (members) => {
    const [first, ...others] = members.map(({ id }) => id);
    for (const to of members) {
      // As a node that is connected.
      const someone = to.id === first ? (others[0] ?? '') : (first ?? '');
      const addressed = { from: someone, to: to.id, term: 1 };
      const beat: Message = {
        ...{ kind: 'heartbeat', ...addressed, leaderCommit: 0 },
        ...{ round: 0, freshRound: 0, freshIndex: 0 },
      };
      const { instance } = cluster.member(someone).replica.replication;
      for (const fromInstance of ['x', instance]) {
        const greeting = hello(to.id, { from: someone, fromInstance });
        await say(to, [...greeting, ...encodeMessage(beat)]);
      }
      // As one that nobody knows: old terms, again and again.
      const append: Message = {
        ...{ kind: 'appendEntries', from: 'n9', to: to.id, term: 1, prevLogIndex: 0 },
        ...{ prevLogTerm: 0, leaderCommit: 0, entries: [] },
      };
      const replayed = Array.from({ length: 100 }, () => encodeMessage(append)).flat();
      await say(to, [...hello(to.id), ...replayed]);
      // A vote that nobody asked for.
      const vote: Message = {
        ...{ kind: 'requestVoteResponse', from: 'n8', to: to.id, term: 1 },
        ...{ isPreVote: false, voteGranted: true },
      };
      await say(to, [...hello(to.id, { from: 'n8' }), ...encodeMessage(vote)]);
    }
  });
  expect(outcome).toEqual(unharmed(outcome));
});
