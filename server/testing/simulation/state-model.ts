/**
 * What the state machine should be after each entry, decided a second time and more simply than
 * the server does: which commands take effect, and a digest of all that clients wrote. Whatever a
 * node shows, recovers or installs at an index must be this.
 */

import type { Entry } from '../../raft/message.ts';
import { decodeCommand, type Command } from '../../storage/command.ts';
import { fingerprintOf } from '../../storage/fingerprint.ts';
import type { LogEffect } from '../history/exact-index.ts';
import type { StoredVersion } from '../history/durability.ts';

export type Decision = 'applied' | 'conflict' | 'duplicate';

/** The state machine's own keys, which are not modelled. */
export const OWN_KEYS = 'raft/';

export class StateModel {
  readonly #values = new Map<string, Buffer>();
  readonly #versions = new Map<string, number>();
  readonly #requests = new Set<string>();
  readonly #decisions: Decision[] = [];
  readonly #digests: number[] = [0];
  #digest = 0;
  /** Of a command of which the last entries were the first parts. */
  #chunks: { term: number; count: number; parts: readonly Uint8Array[] } | undefined;
  /** Commands that came in chunks, and those that stayed without an end. */
  readonly counts = { joined: 0, cut: 0 };
  readonly effects: LogEffect[] = [];
  readonly stored: StoredVersion[] = [];

  /** In the order of the log, each once. */
  apply(entry: Entry): void {
    const bytes = this.#join(entry);
    const command = bytes && decodeCommand(bytes);
    const decision = command === undefined ? 'applied' : this.#decide(command);
    this.#decisions.push(decision);
    if (command !== undefined && decision === 'applied') this.#effect(entry.index, command);
    this.#digests.push(this.#digest);
  }

  /** The command that an entry brings, or brings to its end. */
  #join({ kind, term, command }: Entry): Uint8Array | undefined {
    const before = this.#chunks;
    this.#chunks = undefined;
    const chunk = kind === 'command' ? chunkOf(command) : undefined;
    const follows =
      before?.term === term &&
      before.count === chunk?.count &&
      before.parts.length === chunk.number;
    if (before !== undefined && !follows) this.counts.cut += 1;
    if (chunk === undefined) return kind === 'command' ? command : undefined;
    if (chunk.number > 0 && !follows) return undefined;
    const parts = [...((chunk.number > 0 && before?.parts) || []), chunk.part];
    if (parts.length < chunk.count) {
      this.#chunks = { term, count: chunk.count, parts };
      return undefined;
    }
    this.counts.joined += 1;
    return Buffer.concat(parts);
  }

  #decide({ stamp, reads }: Command): Decision {
    const request = stamp && `${stamp.session}:${stamp.sequence}`;
    if (request !== undefined && this.#requests.has(request)) return 'duplicate';
    const holds = reads.every(({ key, fingerprint }) =>
      fingerprintOf(this.#values.get(key)).equals(fingerprint),
    );
    if (!holds) return 'conflict';
    if (request !== undefined) this.#requests.add(request);
    return 'applied';
  }

  #effect(index: number, { operations }: Command): void {
    for (const operation of operations) {
      const { key } = operation;
      this.#digest ^= digestOf(key, this.#values.get(key));
      const value = operation.kind === 'put' ? Buffer.from(operation.value) : undefined;
      this.#digest ^= digestOf(key, value);
      if (value === undefined) this.#values.delete(key);
      else this.#values.set(key, value);
      const version = (this.#versions.get(key) ?? 0) + 1;
      this.#versions.set(key, version);
      const text = value?.toString('latin1') ?? null;
      this.effects.push({ index, key, state: { value: text, version } });
      if (text !== null) this.stored.push({ key, version, value: text });
    }
  }

  decisionAt(index: number): Decision | undefined {
    return this.#decisions[index - 1];
  }

  digestAt(index: number): number | undefined {
    return this.#digests[index];
  }

  get lastIndex(): number {
    return this.#decisions.length;
  }
}

/** `storage/chunking.ts` has the format. */
function chunkOf(
  command: Uint8Array,
): { number: number; count: number; part: Uint8Array } | undefined {
  if (command[0] !== 192) return undefined;
  const bytes = Buffer.from(command);
  return { number: bytes.readUInt32LE(1), count: bytes.readUInt32LE(5), part: bytes.subarray(9) };
}

/** Of one key and its value; the digest of a state is the exclusive or of them all. */
export function digestOf(key: string, value: Uint8Array | undefined): number {
  if (value === undefined) return 0;
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at += 1) {
    hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  }
  hash = Math.imul(hash ^ 0xff, 0x85ebca6b);
  for (const byte of value) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash ^ (hash >>> 15);
}

/** Of all that clients wrote. */
export function digestOfAll(values: ReadonlyMap<string, Uint8Array>): number {
  let digest = 0;
  for (const [key, value] of values) {
    if (!key.startsWith(OWN_KEYS)) digest ^= digestOf(key, value);
  }
  return digest;
}
