/**
 * Golden scripts: what a cluster does, told step by step. A script is a text in blocks,
 *
 *     # Prose.
 *     command arguments
 *     ----
 *     what the commands had to say
 *
 * parted by empty lines. `runScript` runs the commands and returns the same text with what they
 * really say, so that a test is a comparison and an update a replacement. Commands:
 *
 *     nodes 3 [learners=n] [spares=n] [piggyback=ticks] [append=bytes] [inflight=n] [uncommitted=bytes]
 *             [election=ticks] [heartbeat=ticks] [seed=n]   with a seed: as a simulation does
 *             [lease=ms] [rounds=1]    `rounds` shows the rounds of heartbeats
 *             [gathered=1]             a commit index is told only with entries, or by `push`
 *     campaign n | tick n [times] | propose n text... | transfer n m
 *     configure n 1v 2v 3l [way=auto|implicit|explicit]
 *     compact n index | unreachable n m | snapshot-report n m ok|failed
 *     ready n              take one Ready: messages leave, writes and applies wait
 *     write n | apply n    finish the oldest write, or batch
 *     deliver n [from=m] [pick=k]   hand over what is on its way to n, in order, or only the k-th;
 *             with `keep` it stays on its way, to come once more
 *     drop n [from=m]      lose it instead
 *     stabilize [n...]     all of these until nothing moves; without n: every node that runs
 *     crash n [kept]       `kept` in [0,1): how much of the writes under way survives; a node that
 *                          is down receives nothing
 *     read n id            ask for a read index; its end is part of a Ready
 *     push n               what is committed may be told by appends of its own
 *     clock n ms | distrust n   so much time passes for the core of n; its clock is suspect
 *     start n | status [n...] | log n | state n
 *     quiet | loud         say only what `status`, `log`, `state` and calls answer, or all
 */

import assert from 'node:assert/strict';

import type { Transition } from '../raft/configuration.ts';
import type {
  Configuration,
  Entry,
  Message,
  NodeId,
  ReadState,
  Ready,
  Server,
} from '../raft/message.ts';
import { Random } from './random.ts';
import { SimulatedNode, type Envelope, type NodeOptions } from './simulated-node.ts';

const STABILIZE_ROUNDS_MAX = 200;
/** Roomy, so that only the scripts about limits meet them. */
const DEFAULTS = {
  election: 10,
  heartbeat: 2,
  learners: 0,
  spares: 0,
  piggyback: 0,
  append: 65_536,
  inflight: 64,
  uncommitted: 65_536,
  lease: 0,
  rounds: 0,
  gathered: 0,
};

const SUFFRAGES = { voter: 'v', learner: 'l', leaving: 'x' } as const;

export function runScript(text: string): string {
  const cluster = new ScriptedCluster();
  return text
    .split(/\n{2,}/)
    .map((block) => runBlock(cluster, block.trimEnd()))
    .join('\n\n')
    .concat('\n');
}

function runBlock(cluster: ScriptedCluster, block: string): string {
  const [head = ''] = block.split(/^----$/m);
  const lines = head.split('\n').filter((line) => line !== '');
  const commands = lines.filter((line) => !line.startsWith('#'));
  if (commands.length === 0) return lines.join('\n');
  const output = commands.flatMap((command) => cluster.run(command));
  return [...lines, '----', ...(output.length === 0 ? ['ok'] : output)].join('\n');
}

class ScriptedCluster {
  readonly #nodes = new Map<NodeId, SimulatedNode>();
  #inFlight: Envelope[] = [];
  /** A simulation draws jitter from its seed, and asks for output after every input. */
  #isSimulation = false;
  #isLoud = true;
  readonly #clocks = new Map<NodeId, number>();
  /** The rounds of heartbeats are noise but to scripts about reads. */
  #areRoundsShown = false;
  #output: string[] = [];

  run(line: string): string[] {
    this.#output = [];
    const words = line.split(/\s+/);
    const named = new Map<string, string>();
    const positional: string[] = [];
    for (const word of words.slice(1)) {
      const [name = '', value] = word.split('=');
      if (value === undefined) positional.push(name);
      else named.set(name, value);
    }
    try {
      this.#dispatch(words[0] ?? '', positional, named);
    } catch (cause) {
      throw new Error(`Cannot run "${line}"`, { cause });
    }
    return this.#output;
  }

  #dispatch(command: string, words: string[], named: Map<string, string>): void {
    switch (command) {
      case 'nodes':
        return this.#addNodes(Number(words[0]), named);
      case 'quiet':
        this.#isLoud = false;
        return;
      case 'loud':
        this.#isLoud = true;
        return;
      case 'status':
        for (const node of this.#select(words)) this.#printStatus(node);
        return;
      case 'stabilize':
        return this.#stabilize(words);
    }
    const node = this.#node(words[0]);
    this.#act(node, command, words, named);
    // What is pushed waits for the input of the same turn.
    if (this.#isSimulation && node.isRunning && command !== 'push') node.raft.hasReady();
  }

  #act(node: SimulatedNode, command: string, words: string[], named: Map<string, string>): void {
    const number = Number(words[1]);
    switch (command) {
      case 'campaign':
        return node.raft.campaign();
      case 'tick':
        for (let count = words.length > 1 ? number : 1; count > 0; count -= 1) node.raft.tick();
        return;
      case 'read':
        return node.raft.readIndex(number);
      case 'clock':
        this.#clocks.set(node.id, (this.#clocks.get(node.id) ?? 0) + number);
        return node.raft.advanceTime(this.#clocks.get(node.id) ?? 0);
      case 'distrust':
        return node.raft.distrustTime();
      case 'push':
        return node.raft.pushCommit();
      case 'propose':
        return this.#say(
          node.raft.propose(words.slice(1).map((word) => new TextEncoder().encode(word))),
        );
      case 'configure':
        return this.#say(
          node.raft.proposeConfiguration(
            parseConfiguration(words.slice(1)),
            parseTransition(named.get('way') ?? 'auto'),
          ),
        );
      case 'transfer':
        return this.#say({
          kind: node.raft.transferLeadership(`n${words[1]}`) ? 'begun' : 'refused',
        });
      case 'compact':
        return node.compact(number);
      case 'unreachable':
        return node.raft.reportUnreachable(`n${words[1]}`);
      case 'snapshot-report':
        return node.raft.reportSnapshot(`n${words[1]}`, words[2] === 'ok');
      case 'ready':
        return this.#ready(node);
      case 'write':
        return this.#write(node);
      case 'apply':
        return this.#apply(node);
      case 'deliver':
        named.set('keep', words.includes('keep') ? 'yes' : '');
        return this.#deliver(node, named, (envelope) => node.step(envelope));
      case 'drop':
        return this.#deliver(node, named, () => this.#tell('  lost'));
      case 'crash':
        return node.crash(words.length > 1 ? number : 0);
      case 'start':
        return node.start();
      case 'log':
        return this.#print(`${node.id} log ${formatLog(node)}`);
      case 'state':
        return this.#print(
          `${node.id} state index=${node.state.index} [${node.state.commands.join(' ')}]`,
        );
      default:
        assert.fail(`unknown command ${command}`);
    }
  }

  #addNodes(count: number, named: ReadonlyMap<string, string>): void {
    const setting = (name: keyof typeof DEFAULTS): number =>
      Number(named.get(name) ?? DEFAULTS[name]);
    const ids = Array.from({ length: count + setting('spares') }, (_, index) => `n${index + 1}`);
    const servers = ids
      .slice(0, count)
      .map((id, index) => server(id, index < count - setting('learners') ? 'voter' : 'learner'));
    const timeoutTicks = setting('piggyback');
    this.#isSimulation = named.has('seed');
    this.#areRoundsShown = setting('rounds') > 0;
    for (const [index, id] of ids.entries()) {
      const seed = named.get('seed');
      const jitter = seed === undefined ? undefined : new Random(Number(seed), id);
      const options: NodeOptions = {
        id,
        electionTicks: setting('election'),
        heartbeatTicks: setting('heartbeat'),
        leaseMs: setting('lease'),
        // The lower the number, the sooner the node stands.
        random: () => jitter?.next() ?? index / ids.length,
        commitNotify:
          timeoutTicks > 0
            ? { kind: 'piggyback', timeoutTicks }
            : { kind: 'push', isGathered: setting('gathered') > 0 },
        limits: {
          appendBytesMax: setting('append'),
          inflightAppendsMax: setting('inflight'),
          uncommittedBytesMax: setting('uncommitted'),
        },
      };
      this.#nodes.set(id, new SimulatedNode(options, { servers: index < count ? servers : [] }));
    }
  }

  #node(name: string | undefined): SimulatedNode {
    const node = this.#nodes.get(`n${name}`);
    assert(node !== undefined, `no node ${name}`);
    return node;
  }

  #select(names: readonly string[]): SimulatedNode[] {
    const nodes = names.length === 0 ? [...this.#nodes.values()] : names.map((n) => this.#node(n));
    return nodes.filter((node) => node.isRunning);
  }

  #stabilize(names: readonly string[]): void {
    for (let round = 0; round < STABILIZE_ROUNDS_MAX; round += 1) {
      let hasMoved = false;
      for (const node of this.#select(names)) {
        while (node.isRunning && this.#advance(node)) hasMoved = true;
      }
      if (!hasMoved) return;
    }
    assert.fail('the cluster does not become stable');
  }

  #advance(node: SimulatedNode): boolean {
    if (node.raft.hasReady()) this.#ready(node);
    else if (node.writeCount > 0) this.#write(node);
    else if (node.applyCount > 0) this.#apply(node);
    else if (this.#inFlight.some(({ message }) => message.to === node.id)) {
      this.#deliver(node, new Map(), (envelope) => node.step(envelope));
    } else return false;
    return true;
  }

  #ready(node: SimulatedNode): void {
    const ready = node.takeReady();
    this.#tell(`${node.id} ready${formatReady(ready)}`);
    for (const state of ready.readStates) this.#print(`${node.id} read ${formatReadState(state)}`);
    for (const message of ready.messagesAfterAppend) {
      this.#tell(`  waits: ${this.#format(message)}`);
    }
    this.#send(node, ready.messages);
  }

  #write(node: SimulatedNode): void {
    this.#tell(`${node.id} wrote`);
    this.#send(node, node.finishWrite());
  }

  #apply(node: SimulatedNode): void {
    const applied = node.finishApply();
    this.#tell(`${node.id} applied ${formatEntries(applied)}`);
  }

  #send(node: SimulatedNode, messages: readonly Message[]): void {
    for (const message of messages) {
      const envelope = node.envelope(message);
      const isLost = this.#nodes.get(message.to)?.isRunning !== true;
      this.#tell(`  ${this.#format(envelope.message)}${isLost ? ' lost' : ''}`);
      if (!isLost) this.#inFlight.push(envelope);
    }
  }

  #deliver(
    node: SimulatedNode,
    named: ReadonlyMap<string, string>,
    take: (envelope: Envelope) => void,
  ): void {
    const from = named.get('from');
    const pick = named.get('pick');
    const queue = this.#inFlight.filter(
      ({ message }) =>
        message.to === node.id && (from === undefined || message.from === `n${from}`),
    );
    const chosen = new Set(
      pick === undefined ? queue : queue.slice(Number(pick) - 1, Number(pick)),
    );
    if (named.get('keep') !== 'yes') {
      this.#inFlight = this.#inFlight.filter((envelope) => !chosen.has(envelope));
    }
    for (const envelope of chosen) {
      this.#tell(`${node.id} <- ${this.#format(envelope.message)}`);
      take(envelope);
    }
  }

  #format(message: Message): string {
    return format(message) + (this.#areRoundsShown ? formatRound(message) : '');
  }

  #printStatus(node: SimulatedNode): void {
    const status = node.raft.status();
    const leader = status.leaderId ?? '-';
    this.#print(
      `${node.id} ${status.role} term=${status.currentTerm} leader=${leader} ` +
        `commit=${status.commitIndex} applied=${status.appliedIndex} ` +
        `durable=${status.durableIndex} last=${status.lastIndex} ` +
        `[${formatConfiguration(status.configuration)}]` +
        (status.transferTarget === null ? '' : ` transfer=${status.transferTarget}`),
    );
    const { freshness } = status;
    if (this.#areRoundsShown && freshness !== undefined) {
      this.#print(`  fresh as of ${freshness.asOfMs} with ${freshness.index}`);
    }
    for (const [id, row] of status.progress) {
      if (id === node.id) continue;
      this.#print(
        `  ${id} ${row.kind} match=${row.matchIndex} next=${row.nextIndex}` +
          (row.recentActive ? '' : ' inactive'),
      );
    }
  }

  #say(result: { readonly kind: string }): void {
    const words = Object.entries(result).map(([name, value]) =>
      name === 'kind' ? String(value) : `${name}=${String(value)}`,
    );
    this.#print(words.join(' '));
  }

  #tell(line: string): void {
    if (this.#isLoud) this.#output.push(line);
  }

  #print(line: string): void {
    this.#output.push(line);
  }
}

function server(id: NodeId, suffrage: Server['suffrage']): Server {
  return { id, address: '', suffrage };
}

/** `1v 2l` is voter n1 and learner n2. */
function parseConfiguration(words: readonly string[]): Configuration {
  const servers = words.map((word) =>
    server(`n${word.slice(0, -1)}`, word.endsWith('v') ? 'voter' : 'learner'),
  );
  return { servers };
}

function parseTransition(way: string): Transition {
  assert(way === 'auto' || way === 'implicit' || way === 'explicit', `unknown way ${way}`);
  return way;
}

/** `1v 2v 3x & 2 3` is joint: 2 and 3 are the outgoing voters, of which 3 will be gone. `&!` waits. */
function formatConfiguration({ servers, joint }: Configuration): string {
  const incoming = servers.map(({ id, suffrage }) => `${id.slice(1)}${SUFFRAGES[suffrage]}`);
  if (joint === undefined) return incoming.join(' ');
  const outgoing = joint.votersOutgoing.map((id) => id.slice(1));
  return [...incoming, joint.autoLeave ? '&' : '&!', ...outgoing].join(' ');
}

function formatReady(ready: Ready): string {
  const { hardState, snapshot, entries, committedEntries } = ready;
  const parts = [
    hardState &&
      `hard(term=${hardState.currentTerm} vote=${hardState.votedFor ?? '-'} ` +
        `commit=${hardState.commitIndex})`,
    snapshot && `snapshot(${snapshot.lastIncludedIndex}/${snapshot.lastIncludedTerm})`,
    entries.length > 0 && `entries ${formatEntries(entries)}`,
    committedEntries.length > 0 && `committed ${formatEntries(committedEntries)}`,
  ].filter((part) => typeof part === 'string');
  return parts.map((part) => ` ${part}`).join('');
}

/** `index/term:command` */
function formatEntries(entries: readonly Entry[]): string {
  return `[${entries.map(formatEntry).join(' ')}]`;
}

function formatEntry({ index, term, kind, command }: Entry): string {
  return `${index}/${term}:${kind === 'command' ? new TextDecoder().decode(command) : kind}`;
}

function formatLog({ disk }: SimulatedNode): string {
  return `after ${disk.index}/${disk.term} ${formatEntries(disk.entries)}`;
}

function format(message: Message): string {
  return `${message.from}>${message.to} ${message.kind} term=${message.term}${formatFields(message)}`;
}

function formatFields(message: Message): string {
  switch (message.kind) {
    case 'requestVote':
      return (
        `${message.isPreVote ? ' pre' : ''}${message.isTransfer ? ' transfer' : ''}` +
        ` last=${message.lastLogIndex}/${message.lastLogTerm}`
      );
    case 'requestVoteResponse': {
      const { isPreVote, voteGranted, committed } = message;
      const known =
        committed === undefined ? '' : ` committed=${committed.index}/${committed.term}`;
      return `${isPreVote ? ' pre' : ''} ${voteGranted ? 'granted' : 'refused'}${known}`;
    }
    case 'appendEntries': {
      const { prevLogIndex, prevLogTerm, entries, leaderCommit } = message;
      return ` prev=${prevLogIndex}/${prevLogTerm} commit=${leaderCommit} ${formatEntries(entries)}`;
    }
    case 'appendEntriesResponse': {
      const { success, matchIndex, rejectedIndex, hintIndex, hintTerm } = message;
      return success
        ? ` match=${matchIndex}`
        : ` refused=${rejectedIndex} hint=${hintIndex}/${hintTerm}`;
    }
    case 'heartbeat':
      return ` commit=${message.leaderCommit}`;
    case 'heartbeatResponse':
      return ` applied=${message.appliedIndex}`;
    case 'installSnapshot': {
      const { lastIncludedIndex, lastIncludedTerm, configuration } = message.snapshot;
      return ` ${lastIncludedIndex}/${lastIncludedTerm} [${formatConfiguration(configuration)}]`;
    }
    case 'timeoutNow':
      return '';
    case 'readIndex':
      return ` id=${message.id}`;
    case 'readIndexResponse':
      return ` id=${message.id} ${message.success ? `index=${message.index}` : 'refused'}`;
  }
}

function formatRound(message: Message): string {
  if (message.kind === 'heartbeatResponse') return ` round=${message.round}`;
  if (message.kind !== 'heartbeat') return '';
  const { round, freshRound, freshIndex } = message;
  return ` round=${round}${freshRound === 0 ? '' : ` fresh=${freshRound}/${freshIndex}`}`;
}

function formatReadState(state: ReadState): string {
  return state.kind === 'failed' ? `id=${state.id} failed` : `id=${state.id} index=${state.index}`;
}
