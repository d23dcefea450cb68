/**
 * A replicated `PhysicalStore` without a network, for tests of what lies above it: one list of
 * committed batches, and nodes that have applied a prefix of it.
 *
 * The leader applies its writes by itself, in a later microtask, as the real one never answers in
 * the same turn. A standby applies only in `deliver()`, so a test decides how stale it is. The
 * promises of `server/core/ports.ts` hold on every node: values first, then listeners, then the
 * index, then waiters.
 */

import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import type {
  Change,
  ChangeFeed,
  ClusterServer,
  Commit,
  CommitOutcome,
  Leadership,
  ListPage,
  PhysicalStore,
  Replication,
  Tenure,
  WriteOperation,
  AutopilotConfiguration,
} from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { checkKeys, encodeCommit } from '../replica/physical.ts';
import { readRecorded } from '../replica/session-table.ts';
import { GroupEffect } from '../replica/state-machine.ts';

export type MemoryNode = {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  readonly leadership: Leadership;
  readonly replication: Replication;
  /** Applies up to `count` (default: all) batches that are committed but not applied here. */
  deliver(count?: number): void;
  /** Applies all of them as one installed snapshot: the change is `everything`. */
  deliverSnapshot(): void;
};

export type MemoryCluster = {
  /** The node of that name; created, with nothing applied, on first use. */
  node(id: string): MemoryNode;
  /** The node that leads. */
  leader(): MemoryNode;
  /** The node `standby-<number>`, which does not lead unless elected. */
  standby(number?: number): MemoryNode;
  /** Moves leadership. The new leader has applied everything when its `acquire` resolves. */
  elect(id: string): void;
  /** Leaves the cluster without a leader until the next `elect`. */
  depose(): void;
  /** Every batch committed so far, oldest first; batch `i` has index `i + 1`. */
  committed(): readonly (readonly WriteOperation[])[];
};

const DEFAULT_AUTOPILOT: AutopilotConfiguration = {
  cleanupDeadServers: false,
  lastContactThresholdMs: 10_000,
  deadServerLastContactThresholdMs: 86_400_000,
  maxTrailingLogs: 1000,
  minQuorum: 0,
  serverStabilizationMs: 10_000,
};

type Shared = {
  readonly log: (readonly WriteOperation[])[];
  readonly nodes: Map<string, Node>;
  servers: ClusterServer[];
  term: number;
  leaderId: string | undefined;
};

/** OpenBao's `max_entry_size` default. */
const ENTRY_BYTES_MAX = 1024 * 1024;

export function createMemoryCluster(leaderId = 'node-1'): MemoryCluster {
  const shared: Shared = {
    log: [],
    nodes: new Map(),
    servers: [],
    term: 0,
    leaderId: undefined,
  };
  const node = (id: string): Node => {
    const existing = shared.nodes.get(id);
    if (existing !== undefined) return existing;
    const created = new Node(id, shared);
    shared.nodes.set(id, created);
    return created;
  };
  const depose = (): void => {
    const former = shared.leaderId;
    shared.leaderId = undefined;
    if (former !== undefined) node(former).endTenure();
  };
  const elect = (id: string): void => {
    depose();
    shared.term += 1;
    shared.leaderId = id;
    node(id).deliver();
    node(id).beginTenure();
  };
  elect(leaderId);
  return {
    node,
    leader: () => {
      assert(shared.leaderId !== undefined, 'nobody leads');
      return node(shared.leaderId);
    },
    standby: (number = 1) => node(`standby-${number}`),
    elect,
    depose,
    committed: () => shared.log,
  };
}

class Node implements MemoryNode {
  readonly physical: PhysicalStore;
  readonly changeFeed: ChangeFeed;
  readonly leadership: Leadership;
  readonly replication: Replication;
  readonly #id: string;
  readonly #shared: Shared;
  readonly #values = new Map<string, Uint8Array>();
  readonly #listeners = new Set<(change: Change) => void>();
  #appliedIndex = 0;
  #appliedWaiters: { index: number; resolve: () => void }[] = [];
  #tenure: { tenure: Tenure; end: () => void } | undefined;
  #tenureWaiters = new Set<(tenure: Tenure) => void>();

  constructor(id: string, shared: Shared) {
    this.#id = id;
    this.#shared = shared;
    this.physical = {
      get: (key) => this.#values.get(key),
      list: async (prefix, page) => listChildren(this.#values.keys(), prefix, page),
      write: (operations) => this.#write(operations),
      commit: (commit) => this.#commit(commit),
      recorded: (stamp) => readRecorded((key) => this.#values.get(key), stamp),
      appliedIndex: () => this.#appliedIndex,
      awaitApplied: (index, timeoutMs) => this.#awaitApplied(index, timeoutMs),
    };
    this.changeFeed = {
      subscribe: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
    this.leadership = {
      nodeId: id,
      acquire: (signal) => this.#acquire(signal),
      stepDown: () => this.#stepDown(),
      isLeader: () => shared.leaderId === id,
      leaderId: () => shared.leaderId,
    };
    this.replication = this.#createReplication();
  }

  deliver(count = Infinity): void {
    const end = Math.min(this.#shared.log.length, this.#appliedIndex + count);
    while (this.#appliedIndex < end) {
      const index = this.#appliedIndex + 1;
      this.#publish({ kind: 'keys', index, keys: this.#applyBatch(index) });
    }
  }

  deliverSnapshot(): void {
    const last = this.#shared.log.length;
    for (let index = this.#appliedIndex + 1; index <= last; index++) this.#applyBatch(index);
    this.#publish({ kind: 'everything', index: last });
  }

  beginTenure(): void {
    let end = (): void => undefined;
    const lost = new Promise<void>((resolve) => (end = resolve));
    const tenure = { term: this.#shared.term, lost };
    this.#tenure = { tenure, end };
    for (const resolve of this.#tenureWaiters) resolve(tenure);
    this.#tenureWaiters.clear();
  }

  endTenure(): void {
    this.#tenure?.end();
    this.#tenure = undefined;
  }

  #applyBatch(index: number): string[] {
    const operations = this.#shared.log[index - 1];
    assert(operations !== undefined, 'applied beyond the log');
    for (const operation of operations) {
      if (operation.kind === 'put') this.#values.set(operation.key, operation.value);
      else this.#values.delete(operation.key);
    }
    return operations.map((operation) => operation.key);
  }

  #publish(change: Change): void {
    for (const listener of this.#listeners) listener(change);
    this.#appliedIndex = change.index;
    const due = this.#appliedWaiters.filter((waiter) => waiter.index <= change.index);
    this.#appliedWaiters = this.#appliedWaiters.filter((waiter) => waiter.index > change.index);
    for (const waiter of due) waiter.resolve();
  }

  /** Decided once, by the leader; what follows from it is the batch that all apply. */
  async #commit(commit: Commit): Promise<CommitOutcome> {
    checkKeys(commit.operations);
    const command = encodeCommit({ ...commit, lists: [] });
    await this.#becomeProposer();
    const index = this.#shared.log.length + 1;
    const effect = new GroupEffect({
      get: (key) => this.#values.get(key),
      list: async () => assert.fail('lists are compared below'),
    });
    const refusal = effect.execute(index, command);
    assert(!(refusal instanceof Promise));
    if (refusal !== undefined) return { kind: refusal };
    const listsHold = commit.lists.every(({ prefix, page, children }) =>
      isDeepStrictEqual(listChildren(this.#values.keys(), prefix, page), children),
    );
    if (!listsHold) return { kind: 'conflict' };
    const copied = effect.operations().map((operation) => structuredClone(operation));
    this.#shared.log.push(copied);
    this.deliver();
    return { kind: 'applied', index };
  }

  async #write(operations: readonly WriteOperation[]): Promise<number> {
    checkKeys(operations);
    let bytes = 0;
    const copied = operations.map((operation): WriteOperation => {
      bytes += operation.key.length;
      if (operation.kind === 'delete') return { kind: 'delete', key: operation.key };
      bytes += operation.value.length;
      return { kind: 'put', key: operation.key, value: Uint8Array.from(operation.value) };
    });
    if (bytes > ENTRY_BYTES_MAX) throw tooLargeError(bytes);
    await this.#becomeProposer();
    const index = this.#shared.log.push(copied);
    this.deliver();
    return index;
  }

  async #becomeProposer(): Promise<void> {
    await Promise.resolve();
    if (this.#shared.leaderId === this.#id) return;
    throw new ServerError('no-leader', 'local node not active but active cluster node not found');
  }

  #awaitApplied(index: number, timeoutMs: number): Promise<boolean> {
    if (index <= this.#appliedIndex) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter = {
        index,
        resolve: () => {
          clearTimeout(timer);
          resolve(true);
        },
      };
      const timer = setTimeout(() => {
        this.#appliedWaiters = this.#appliedWaiters.filter((other) => other !== waiter);
        resolve(false);
      }, timeoutMs);
      this.#appliedWaiters.push(waiter);
    });
  }

  #acquire(signal: AbortSignal): Promise<Tenure> {
    signal.throwIfAborted();
    if (this.#tenure !== undefined) return Promise.resolve(this.#tenure.tenure);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#tenureWaiters.delete(onTenure);
        reject(signal.reason);
      };
      const onTenure = (tenure: Tenure): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(tenure);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#tenureWaiters.add(onTenure);
    });
  }

  async #stepDown(): Promise<void> {
    if (this.#shared.leaderId !== this.#id) throw new ServerError('no-leader', 'not the leader');
    const target = [...this.#shared.nodes.values()].find((node) => node !== this);
    if (target === undefined) {
      throw new ServerError('conflict', 'cannot step down: no other voter is available');
    }
    this.#shared.leaderId = undefined;
    this.endTenure();
    this.#shared.term += 1;
    this.#shared.leaderId = target.#id;
    target.deliver();
    target.beginTenure();
  }

  #createReplication(): Replication {
    const shared = this.#shared;
    const server = (id: string, address: string): ClusterServer => ({
      id,
      address,
      suffrage: 'voter',
      isLeader: false,
    });
    if (shared.nodes.size === 0) shared.servers = [server(this.#id, '127.0.0.1:1')];
    return {
      instance: `${this.#id}-disk`,
      isBootstrapped: () => this.#appliedIndex > 0,
      bootstrap: async () => undefined,
      start: async () => undefined,
      stop: async () => undefined,
      configuration: () => ({
        servers: shared.servers.map((each) => ({
          ...each,
          isLeader: each.id === shared.leaderId,
        })),
        index: this.#appliedIndex,
      }),
      addServer: async ({ id, address, nonVoter }) => {
        const others = shared.servers.filter((each) => each.id !== id);
        const suffrage = nonVoter === true ? 'learner' : 'voter';
        shared.servers = [...others, { ...server(id, address), suffrage }];
      },
      removeServer: async (id) => {
        shared.servers = shared.servers.filter((each) => each.id !== id);
      },
      // Of a server's health nothing is known here.
      promoteServer: async () => undefined,
      demoteServer: async () => undefined,
      autopilotState: () => undefined,
      autopilotConfiguration: () => DEFAULT_AUTOPILOT,
      setAutopilotConfiguration: async () => undefined,
    };
  }
}

function listChildren(keys: Iterable<string>, prefix: string, page: ListPage = {}): string[] {
  const children = new Set<string>();
  for (const key of keys) {
    if (!key.startsWith(prefix) || key === prefix) continue;
    const slash = key.indexOf('/', prefix.length);
    children.add(slash === -1 ? key.slice(prefix.length) : key.slice(prefix.length, slash + 1));
  }
  const sorted = [...children].toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const { after, limit } = page;
  const rest =
    after === undefined || after === ''
      ? sorted
      : sorted.filter((child) => Buffer.compare(Buffer.from(child), Buffer.from(after)) > 0);
  return limit === undefined || limit <= 0 ? rest : rest.slice(0, limit);
}

function tooLargeError(bytes: number): ServerError {
  return new ServerError(
    'too-large',
    `put failed due to value being too large; got ${bytes} bytes, max: ${ENTRY_BYTES_MAX} bytes`,
  );
}
