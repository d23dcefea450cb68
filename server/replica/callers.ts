/**
 * Who has connected, and for whom each may be taken. All nodes hold one certificate, so a hello's
 * word for who dials must be taken, but for two cases:
 *
 * - a node that is connected is not believed to be somewhere else as well;
 * - an instance (`instance.ts`) that the configuration does not know under its id is not believed to
 *   be that node.
 *
 * The second is what consensus rests on: what one disk promised is not another's promise. Which of
 * two instances of an id is the later one, indexes tell. Each came with a configuration, and the
 * earlier one was removed by one before that. So an instance that this node does not know, of a node
 * that is a member by more than this one has applied, came later: a *successor*. Any other has been
 * *replaced*. A successor is listened to and answered, for it may lead; but until this node has
 * applied what made it a member, nothing is asked of it, and no answer of its counts here.
 */

import { FrameError } from '../frames.ts';
import type { NodeId, Server } from '../raft/message.ts';
import type { Hello } from './control-frames.ts';
import type { PeerSocket } from './peer-socket.ts';

/** What this node has applied. */
export type AppliedMembership = {
  serverOf(id: NodeId): Server | undefined;
  appliedIndex(): number;
};

export type Caller = {
  readonly id: NodeId;
  readonly address: string;
  readonly instance: string;
  memberIndex: number;
  /** Which address was configured when the caller introduced itself. */
  configured: string | undefined;
  /** Open connections, by purpose. */
  readonly sockets: Map<Hello['purpose'], PeerSocket>;
  /** Whether what it answers counts; as of the last configuration. */
  isMember: boolean;
};

/** The caller is an instance that its id does not belong to any more. */
export class ReplacedError extends FrameError {}

/** A node that joins does not know its leader yet; two more may want to lead meanwhile. */
const STRANGERS_MAX = 8;

type Standing = 'member' | 'successor' | 'replaced' | 'stranger';

export class Callers {
  readonly #membership: AppliedMembership;
  readonly #callers = new Map<NodeId, Caller>();

  constructor(membership: AppliedMembership) {
    this.#membership = membership;
  }

  get(id: NodeId): Caller | undefined {
    return this.#callers.get(id);
  }

  /** Throws `FrameError` if the caller cannot be who it says, or is one stranger too many. */
  admit(hello: Hello): Caller {
    const { from: id, fromInstance: instance, memberIndex, address } = hello;
    const standing = this.#standingOf({ id, instance, memberIndex });
    if (standing === 'replaced') throw new ReplacedError(`node ${id} has been replaced`);
    const configured = this.#membership.serverOf(id)?.address;
    const isMember = standing === 'member';
    const present = this.#findPresent({ id, instance, memberIndex, address });
    if (present !== undefined) return Object.assign(present, { memberIndex, configured, isMember });
    const caller = { id, address, instance, memberIndex, configured, isMember, sockets: new Map() };
    this.#callers.set(id, caller);
    return caller;
  }

  /** Who is meant by a node's id; empty if any instance is. */
  meant(id: NodeId): string {
    const server = this.#membership.serverOf(id);
    const caller = this.#callers.get(id);
    if (server === undefined) return caller?.instance ?? '';
    if (server.instance === undefined) return '';
    return this.isSuccessorMeant(id) && caller !== undefined ? caller.instance : server.instance;
  }

  /** Whether the one who is meant is not the one who is configured. */
  isSuccessorMeant(id: NodeId): boolean {
    const caller = this.#callers.get(id);
    if (caller === undefined || caller.sockets.size === 0) return false;
    return this.#standingOf(caller) === 'successor';
  }

  /** After a change of the configuration; returns the callers that it replaced, and forgets them. */
  reconsider(): Caller[] {
    const replaced: Caller[] = [];
    for (const caller of this.#callers.values()) {
      const standing = this.#standingOf(caller);
      caller.isMember = standing === 'member';
      if (standing === 'replaced') replaced.push(caller);
    }
    for (const { id } of replaced) this.#callers.delete(id);
    return replaced;
  }

  /** What is kept of a node ends with its last connection, unless it is configured. */
  forgetStranger({ id, sockets }: Caller): boolean {
    const isLast = sockets.size === 0 && this.#callers.get(id)?.sockets === sockets;
    if (!isLast || this.#membership.serverOf(id) !== undefined) return false;
    this.#callers.delete(id);
    return true;
  }

  closeAll(): void {
    for (const caller of this.#callers.values()) disconnect(caller);
  }

  /** The caller, if it has another connection. Throws if somebody else has one in its name. */
  #findPresent(caller: Pick<Caller, 'id' | 'instance' | 'memberIndex' | 'address'>) {
    const { id, address } = caller;
    const known = this.#callers.get(id);
    if (known === undefined || known.sockets.size === 0) {
      const isStranger = this.#membership.serverOf(id) === undefined;
      const isFull = STRANGERS_MAX <= this.#strangerCount();
      if (isStranger && isFull) throw new FrameError('too many unknown nodes');
      return undefined;
    }
    if (known.instance === caller.instance) {
      if (known.address !== address) throw new FrameError('the node is connected from elsewhere');
      return known;
    }
    if (this.#seniority(caller) <= this.#seniority(known)) {
      throw new FrameError('another instance of the node is connected');
    }
    disconnect(known);
    return undefined;
  }

  #standingOf(caller: Pick<Caller, 'id' | 'instance' | 'memberIndex'>): Standing {
    const server = this.#membership.serverOf(caller.id);
    if (server === undefined) return 'stranger';
    // One that was added before there were instances may be any.
    if (server.instance === undefined || server.instance === caller.instance) return 'member';
    return this.#membership.appliedIndex() < caller.memberIndex ? 'successor' : 'replaced';
  }

  #seniority(caller: Pick<Caller, 'id' | 'instance' | 'memberIndex'>): number {
    const standing = this.#standingOf(caller);
    if (standing === 'successor') return caller.memberIndex;
    return standing === 'member' ? 0 : -1;
  }

  #strangerCount(): number {
    const ids = [...this.#callers.keys()];
    return ids.filter((id) => this.#membership.serverOf(id) === undefined).length;
  }
}

export function disconnect({ sockets }: Caller): void {
  for (const socket of sockets.values()) socket.destroy();
}
