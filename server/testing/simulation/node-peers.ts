/**
 * The ways of one simulated process to its peers, as `session.ts` has them: the real transport with
 * its lanes and hellos, and the real builder, sender and receiver of snapshots, on simulated
 * connections, files and time.
 */

import type { InstallSnapshot, Message, NodeId, SnapshotMetadata } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { CatchUpHold } from '../../replica/catch-up-hold.ts';
import type { Clock } from '../../replica/clock.ts';
import { SNAPSHOT_ID_BYTES } from '../../replica/control-frames.ts';
import type { FileOperations, OpenFile } from '../../replica/file-operations.ts';
import { Pace } from '../../replica/pace.ts';
import type { PeerSocket } from '../../replica/peer-socket.ts';
import { SnapshotBuilder, type SnapshotLease } from '../../replica/snapshot-builder.ts';
import { SnapshotReceiver } from '../../replica/snapshot-receiver.ts';
import { SnapshotSender } from '../../replica/snapshot-sender.ts';
import { Transport } from '../../replica/transport.ts';
import type { Store, StoreStream } from '../../storage/store.ts';
import type { Random } from '../random.ts';
import { addressOf } from './membership-changes.ts';
import type { TransferChecker } from './transfer-checker.ts';
import type { TransferPlan, TransferPoint } from './transfer-plan.ts';

export const SNAPSHOT_DIRECTORY = '/snapshots';
const SNAPSHOT_BYTES_MAX = 1024 * 1024;
/** What a connection is given up for, as the receiving side says it. */
const REFUSALS: ReadonlySet<string> = new Set(['peer sent garbage', 'replaced node refused']);

export type PeersWorld = {
  readonly plan: TransferPlan;
  readonly clock: Clock;
  readonly files: FileOperations;
  readonly ids: Random;
  readonly checker: TransferChecker;
  dial(to: NodeId): Promise<PeerSocket>;
  reached(point: TransferPoint): void;
  read(file: string): Buffer;
  onInstalled(message: InstallSnapshot): void;
  onFatal(error: unknown): void;
};

export type PeersPort = {
  status(): RaftStatus;
  receive(message: Message): void;
  unreachable(id: NodeId): void;
  snapshotReceived(message: InstallSnapshot, file: string): Promise<void>;
  snapshotSent(to: NodeId, isComplete: boolean): void;
};

export class NodePeers {
  readonly #id: NodeId;
  readonly #world: PeersWorld;
  readonly #port: PeersPort;
  readonly #transport: Transport;
  readonly #builder: SnapshotBuilder;
  readonly #sender: SnapshotSender;
  readonly #receiver: SnapshotReceiver;
  readonly hold: CatchUpHold;
  readonly #pace: Pace;
  /** What is on its way to whom, by what order. */
  readonly #sending = new Map<NodeId, InstallSnapshot>();
  readonly #built = new Map<number, SnapshotMetadata>();
  #wasLeader = false;
  #configuration: RaftStatus['configuration'] = { servers: [] };

  constructor(id: NodeId, store: Store, { world, port }: { world: PeersWorld; port: PeersPort }) {
    const { plan, clock } = world;
    this.#id = id;
    this.#world = world;
    this.#port = port;
    this.hold = new CatchUpHold(plan.holdBytes);
    this.#pace = new Pace(plan.bytesPerSecond, clock);
    this.#transport = this.#createTransport();
    const host = { clock, logger: this.#logger(), files: this.#observedFiles() };
    this.#builder = new SnapshotBuilder({
      ...host,
      ...{ directory: SNAPSHOT_DIRECTORY, store, bytesPerSecond: plan.bytesPerSecond },
      createId: () => world.ids.bytes(SNAPSHOT_ID_BYTES),
    });
    this.#sender = this.#createSender(host);
    this.#receiver = new SnapshotReceiver({
      ...host,
      ...{ directory: SNAPSHOT_DIRECTORY, nodeId: id, syncBytes: plan.syncBytes },
      snapshotBytesMax: SNAPSHOT_BYTES_MAX,
      onSnapshot: (message, file) => {
        this.#judge(() => world.checker.onReceived(message, world.read(file)));
        return port.snapshotReceived(message, file);
      },
    });
  }

  get underWay(): number {
    return this.#sending.size;
  }

  accept(socket: PeerSocket): void {
    this.#transport.accept(socket);
  }

  send(message: Message): void {
    this.#transport.send(message);
  }

  flush(): void {
    this.#transport.flush();
  }

  sendSnapshot(message: InstallSnapshot): void {
    if (!this.#sending.has(message.to)) this.#sending.set(message.to, message);
    this.#sender.send(message);
  }

  /** What the store takes over, until it has. */
  async *chunksOf(file: string): StoreStream {
    this.#world.reached('installation begins');
    yield* this.#pace.spread(this.#world.files.pieces(file));
  }

  discard(file: string): void {
    void this.#world.files.remove(file);
  }

  /** After each turn of the driver. */
  observe(status: RaftStatus): void {
    const isLeader = status.role === 'leader';
    if (this.#wasLeader && !isLeader) this.#sender.abort();
    this.#wasLeader = isLeader;
    if (status.configuration === this.#configuration) return;
    this.#configuration = status.configuration;
    this.#transport.reconfigured();
  }

  greet({ configuration }: SnapshotMetadata): void {
    if (this.#world.plan.carrier !== 'lanes') return;
    for (const { id } of configuration.servers) if (id !== this.#id) this.#transport.greet(id);
  }

  #logger(): ConstructorParameters<typeof SnapshotSender>[0]['logger'] {
    const { checker } = this.#world;
    const note = (fields: object, event: string): void => {
      const isRefusal =
        REFUSALS.has(event) || ('reason' in fields && `${fields.reason}`.startsWith('FrameError'));
      if (!isRefusal) return;
      this.#judge(() => checker.onRefused(`${event}: ${JSON.stringify(fields)}`));
    };
    return { info: () => undefined, warn: note, error: note };
  }

  /** What is found in the midst of a transfer must not count as the failure of that transfer. */
  #judge(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#world.onFatal(error);
    }
  }

  #createTransport(): Transport {
    const { plan, clock, checker, dial, onFatal } = this.#world;
    const { status, receive, unreachable } = this.#port;
    return new Transport({
      ...{ clock, logger: this.#logger(), nodeId: this.#id, laneLimits: plan.lanes },
      clusterId: 'simulation',
      instance: `disk of ${this.#id}`,
      address: addressOf(this.#id),
      network: { dial: (address) => dial(address.slice(0, address.indexOf(':'))) },
      membership: {
        serverOf: (id) => status().configuration.servers.find((each) => each.id === id),
        appliedIndex: () => status().appliedIndex,
      },
      onMessage: (message) => {
        checker.onFrame();
        receive(message);
      },
      onUnreachable: unreachable,
      onReplaced: () => onFatal(new Error('a disk counts as replaced, and there is no other')),
      onSnapshotConnection: (connection) => {
        this.#world.reached('transfer is offered');
        this.#receiver.accept(connection);
      },
    });
  }

  #createSender(
    host: Pick<ConstructorParameters<typeof SnapshotSender>[0], 'clock' | 'logger' | 'files'>,
  ): SnapshotSender {
    const { plan, onInstalled, reached } = this.#world;
    const { chunkBytes, windowBytes, bytesPerSecond } = plan;
    return new SnapshotSender({
      ...host,
      ...{ sizes: { chunkBytes, windowBytes }, bytesPerSecond },
      builder: { lease: (firstIndex) => this.#lease(firstIndex) },
      firstIndex: () => this.#port.status().firstIndex,
      dial: (to) => this.#transport.dial(to, 'snapshot'),
      hold: (to, index) => {
        this.hold.begin(to, index);
        const [message, snapshot] = [this.#sending.get(to), this.#built.get(index)];
        if (message !== undefined && snapshot !== undefined) {
          this.#sending.set(to, { ...message, snapshot });
        }
      },
      onDone: (to, isComplete) => {
        const sending = this.#sending.get(to);
        this.#sending.delete(to);
        if (isComplete && sending !== undefined) this.#judge(() => onInstalled(sending));
        if (isComplete) reached('transfer is acknowledged');
        this.#port.snapshotSent(to, isComplete);
      },
    });
  }

  async #lease(firstIndex: () => number): Promise<SnapshotLease> {
    const lease = await this.#builder.lease(firstIndex);
    this.#world.checker.onBuilt(lease);
    this.#built.set(lease.snapshot.lastIncludedIndex, lease.snapshot);
    this.#world.reached('snapshot is built');
    return lease;
  }

  /** Tells how far a transfer has come by what becomes of its files. */
  #observedFiles(): FileOperations {
    const { files, reached } = this.#world;
    const after = <T>(done: Promise<T>, point: TransferPoint): Promise<T> =>
      done.then((value) => {
        reached(point);
        return value;
      });
    const observedPart = (file: OpenFile): OpenFile => ({
      read: file.read,
      writeFile: (bytes) => {
        reached('chunk arrives');
        return after(file.writeFile(bytes), 'chunk has arrived');
      },
      datasync: () => after(file.datasync(), 'part is synced'),
      sync: () => after(file.sync(), 'file is whole'),
      close: file.close,
    });
    const observedOutgoing = (file: OpenFile): OpenFile => ({
      ...file,
      read: (...place) => after(file.read(...place), 'chunk is read'),
      writeFile: (bytes) => after(file.writeFile(bytes), 'snapshot is being built'),
    });
    return {
      ...files,
      open: async (path, flags) => {
        const file = await files.open(path, flags);
        if (flags !== 'a') return observedOutgoing(file);
        reached('part is opened');
        return observedPart(file);
      },
      rename: (from, to) => after(files.rename(from, to), 'file is named'),
      syncDirectory: (path) => after(files.syncDirectory(path), 'name is durable'),
    };
  }
}
