/**
 * Writes what happened to the cores as a golden script (`golden.ts`), so that a failing run can
 * become a test in `raft/testdata`. The script repeats each input of each core in its order; it
 * stands on its own, whatever the simulation becomes later.
 */

import type { NodeId, Server } from '../../raft/message.ts';
import type { Envelope } from '../simulated-node.ts';
import type { Plan } from './plan.ts';

export class Script {
  #lines: string[] = [];
  /** What the golden runner has in flight, in its order. */
  #inFlight: Envelope[] = [];
  readonly #clocks = new Map<NodeId, number>();
  #ticks: { id: NodeId; count: number } | undefined;

  begin(plan: Plan): void {
    const { limits, commitNotify } = plan;
    const piggyback = commitNotify.kind === 'push' ? 0 : commitNotify.timeoutTicks;
    this.#lines.push(
      `nodes ${plan.voterCount} spares=${plan.spareCount} seed=${plan.seed} ` +
        `election=${plan.electionTicks} heartbeat=${plan.heartbeatTicks} ` +
        `lease=${plan.leaseMs} append=${limits.appendBytesMax} inflight=${limits.inflightAppendsMax} ` +
        `uncommitted=${limits.uncommittedBytesMax} piggyback=${piggyback}` +
        (commitNotify.kind === 'push' && commitNotify.isGathered ? ' gathered=1' : ''),
      'quiet',
    );
  }

  tick(id: NodeId): void {
    if (this.#ticks?.id === id) this.#ticks.count += 1;
    else {
      this.#flushTicks();
      this.#ticks = { id, count: 1 };
    }
  }

  read(id: NodeId, question: number): void {
    this.#add(`read ${short(id)} ${question}`);
  }

  advanceTime(id: NodeId, nowMs: number): void {
    const elapsedMs = nowMs - (this.#clocks.get(id) ?? 0);
    if (elapsedMs === 0) return;
    this.#clocks.set(id, nowMs);
    this.#add(`clock ${short(id)} ${elapsedMs}`);
  }

  ready(id: NodeId): void {
    this.#add(`ready ${short(id)}`);
  }

  push(id: NodeId): void {
    this.#add(`push ${short(id)}`);
  }

  write(id: NodeId): void {
    this.#add(`write ${short(id)}`);
  }

  apply(id: NodeId): void {
    this.#add(`apply ${short(id)}`);
  }

  compact(id: NodeId, index: number): void {
    this.#add(`compact ${short(id)} ${index}`);
  }

  campaign(id: NodeId): void {
    this.#add(`campaign ${short(id)}`);
  }

  transfer(id: NodeId, to: NodeId): void {
    this.#add(`transfer ${short(id)} ${short(to)}`);
  }

  configure(id: NodeId, servers: readonly Server[]): void {
    const words = servers.map((server) => `${short(server.id)}${server.suffrage[0]}`);
    this.#add(`configure ${short(id)} ${words.join(' ')}`);
  }

  propose(id: NodeId, commands: readonly Uint8Array[]): void {
    const words = commands.map((command) => new TextDecoder().decode(command));
    this.#add(`propose ${short(id)} ${words.join(' ')}`);
  }

  unreachable(id: NodeId, other: NodeId): void {
    this.#add(`unreachable ${short(id)} ${short(other)}`);
  }

  snapshotReport(id: NodeId, other: NodeId, ok: boolean): void {
    this.#add(`snapshot-report ${short(id)} ${short(other)} ${ok ? 'ok' : 'failed'}`);
  }

  crash(id: NodeId, keptFraction: number): void {
    this.#add(`crash ${short(id)} ${keptFraction}`);
  }

  start(id: NodeId): void {
    this.#add(`start ${short(id)}`);
  }

  /** Follows what `ready` and `write` of the golden runner put in flight. */
  send(envelope: Envelope, isReceiverRunning: boolean): void {
    if (isReceiverRunning) this.#inFlight.push(envelope);
  }

  /** The packet stays in flight: it may come again. */
  deliver(envelope: Envelope): void {
    const { from, to } = envelope.message;
    const queue = this.#inFlight.filter(
      ({ message }) => message.to === to && message.from === from,
    );
    const pick = queue.indexOf(envelope) + 1;
    this.#add(`deliver ${short(to)} from=${short(from)} pick=${pick} keep`);
  }

  text(): string {
    this.#flushTicks();
    return `${this.#lines.join('\n')}\nloud\nstatus\n----\n`;
  }

  #add(line: string): void {
    this.#flushTicks();
    this.#lines.push(line);
  }

  #flushTicks(): void {
    if (this.#ticks === undefined) return;
    const { id, count } = this.#ticks;
    this.#ticks = undefined;
    this.#lines.push(`tick ${short(id)} ${count}`);
  }
}

function short(id: NodeId): string {
  return id.slice(1);
}
