/**
 * What must be equal after a step, and which differences are meant to be. Each of those has a name
 * and is counted; docs/differential.md has the reasons.
 */

import { isDeepStrictEqual } from 'node:util';

import type { WireMessage } from './message.ts';
import type { NodeStatus, VoterSets } from './oracle.ts';

export type Difference =
  | 'silent leader is forgotten'
  | 'transfer to a demoted server is given up'
  | 'commit index is remembered'
  | 'removed leader steps down'
  | 'removed leader commits at once'
  | 'removed leader answers a read'
  | 'old vote request is answered'
  | 'old snapshot is answered'
  | 'older claim is repeated'
  | 'timeoutNow is sent once'
  | 'read needs another round, or none'
  | 'append is paced otherwise'
  | 'stale consent to a pre-vote'
  | 'timeoutNow at who does not follow'
  | 'question at who does not lead'
  | 'question of a later term'
  | 'refusal of a question'
  | 'snapshot for who leaves'
  | 'answer of an outsider'
  | 'vote in a term with a forgotten leader'
  | 'proposal beside a joint configuration'
  | 'proposal during a transfer'
  | 'configuration that must wait'
  | 'snapshot of a state in between';

export type Count = (difference: Difference) => void;

/** The two have gone different ways for a reason that is known: there is nothing more to compare. */
export class Parting extends Error {
  override readonly name = 'Parting';
}

export class Disagreement extends Error {
  override readonly name = 'Disagreement';
}

/** `id` is whose status it is. */
export function compareStatus(
  id: number,
  { ours, theirs }: { readonly ours: NodeStatus; readonly theirs: NodeStatus },
  count: Count,
): void {
  const { leader, transferTarget, match, ...plain } = ours;
  for (const [name, value] of Object.entries(plain)) {
    const other = theirs[name as keyof typeof plain];
    if (!isDeepStrictEqual(value, other)) refuse(id, name, value, other);
  }
  if (leader !== theirs.leader) {
    if (leader !== 0 || mayLead(ours.configuration, id))
      refuse(id, 'leader', leader, theirs.leader);
    count('silent leader is forgotten');
  }
  if (transferTarget !== theirs.transferTarget) {
    if (transferTarget !== 0 || mayLead(ours.configuration, theirs.transferTarget)) {
      refuse(id, 'transferTarget', transferTarget, theirs.transferTarget);
    }
    count('transfer to a demoted server is given up');
  }
  if (!isDeepStrictEqual(without(match, id), without(theirs.match, id))) {
    refuse(id, 'match', match, theirs.match);
  }
}

/** A leader counts itself in a way of its own once it is removed. */
function without(match: NodeStatus['match'], id: number): [string, number][] {
  return Object.entries(match).filter(([server]) => Number(server) !== id);
}

function refuse(id: number, what: string, ours: unknown, theirs: unknown): never {
  throw new Disagreement(
    `${what} of node ${id}: ours ${JSON.stringify(ours)}, etcd's ${JSON.stringify(theirs)}`,
  );
}

export function mayLead({ voters, votersOutgoing }: VoterSets, id: number): boolean {
  return voters.includes(id) || votersOutgoing.includes(id);
}

export function isMember(configuration: VoterSets, id: number): boolean {
  const { learners, learnersNext } = configuration;
  return mayLead(configuration, id) || learners.includes(id) || learnersNext.includes(id);
}

/** Compares what a step sent, without appends and snapshots: these each side paces as it likes. */
export function compareMessages(
  sent: { readonly ours: readonly WireMessage[]; readonly theirs: readonly WireMessage[] },
  step: {
    readonly op: string;
    readonly message?: WireMessage;
    readonly isLed: boolean;
    readonly sender: NodeStatus;
  },
  count: Count,
): void {
  const rest = [...sent.theirs];
  for (const message of sent.ours) {
    if (message.kind === 'appendEntries') checkAppend(message, step.sender);
    const at = rest.findIndex((other) => agrees(message, other, count));
    if (at >= 0) rest.splice(at, 1);
    else count(excuseOurs(message, step));
  }
  for (const message of rest) count(excuseTheirs(message, step));
}

/** Whenever it is sent, an append says what the leader's log says. */
function checkAppend(message: WireMessage, sender: NodeStatus): void {
  const { index = 0, logTerm = 0, entryTerms = [], commit = 0 } = message;
  const terms = sender.log.map((entry) => Number.parseInt(entry, 10));
  const held = terms.slice(
    index + 1 - sender.firstIndex,
    index + 1 - sender.firstIndex + entryTerms.length,
  );
  const isRight =
    (index < sender.firstIndex || terms[index - sender.firstIndex] === logTerm) &&
    isDeepStrictEqual(held, entryTerms) &&
    commit <= sender.commit;
  if (!isRight) throw new Disagreement(`not of the leader's log: ${JSON.stringify(message)}`);
}

function agrees(ours: WireMessage, theirs: WireMessage, count: Count): boolean {
  if (ours.kind !== theirs.kind || ours.to !== theirs.to || ours.term !== theirs.term) return false;
  switch (ours.kind) {
    case 'appendEntriesResponse':
      return agreesOnMatch(ours, theirs, count);
    case 'heartbeatResponse':
      return (ours.appliedIndex ?? 0) === (theirs.appliedIndex ?? 0);
    case 'heartbeat':
      return ours.commit === (theirs.commit ?? 0);
    default:
      return isDeepStrictEqual(comparable(ours), comparable(theirs));
  }
}

function agreesOnMatch(ours: WireMessage, theirs: WireMessage, count: Count): boolean {
  const isRefused = ours.refused === true;
  const [index, other] = [ours.index ?? 0, theirs.index ?? 0];
  if (isRefused !== (theirs.refused === true) || index < other) return false;
  if (index === other) return true;
  count('older claim is repeated');
  return !isRefused;
}

function comparable(message: WireMessage): object {
  const { isPreVote = false, isTransfer = false, granted = false, context = '' } = message;
  const { index = 0, logTerm = 0, commit = 0, entryTerms = [] } = message;
  const isVote = message.kind === 'requestVoteResponse';
  return isVote
    ? { isPreVote, granted }
    : { isPreVote, isTransfer, context, index, logTerm, commit, entryTerms };
}

/** Why the other side did not send this, whichever that is. */
function excuseEither({ kind }: WireMessage, op: string): Difference | undefined {
  switch (kind) {
    case 'appendEntries':
    case 'installSnapshot':
      return 'append is paced otherwise';
    case 'heartbeat':
      return op === 'tick' ? undefined : 'read needs another round, or none';
    case 'readIndexResponse':
      return 'read needs another round, or none';
    default:
      return undefined;
  }
}

/** Why etcd's node did not send this. */
function excuseOurs(
  message: WireMessage,
  step: { readonly op: string; readonly message?: WireMessage },
): Difference {
  const excuse = excuseEither(message, step.op);
  if (excuse !== undefined) return excuse;
  const isOld = step.message !== undefined && step.message.term < message.term;
  switch (message.kind) {
    case 'requestVoteResponse':
      if (isOld && step.message?.kind === 'requestVote' && message.granted !== true)
        return 'old vote request is answered';
      break;
    case 'appendEntriesResponse':
      if (isOld && step.message?.kind === 'installSnapshot' && message.index === 0)
        return 'old snapshot is answered';
      break;
    default:
  }
  throw new Disagreement(`only ours sends ${JSON.stringify(message)}`);
}

/** Why ours did not send this. */
function excuseTheirs(
  message: WireMessage,
  step: { readonly op: string; readonly isLed: boolean },
): Difference {
  const excuse = excuseEither(message, step.op);
  if (excuse !== undefined) return excuse;
  switch (message.kind) {
    case 'readIndex':
      if (!step.isLed) return 'silent leader is forgotten';
      break;
    case 'timeoutNow':
      return 'timeoutNow is sent once';
    default:
  }
  throw new Disagreement(`only etcd's sends ${JSON.stringify(message)}`);
}
