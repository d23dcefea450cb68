/**
 * What the state machine should be after each entry, decided a second time and more simply than
 * the server does: which commands take effect, and a digest of all that clients wrote. Whatever a
 * node shows, recovers or installs at an index must be this.
 */

import type { Entry } from '../../raft/message.ts';
import { decodeCommand } from '../../storage/command.ts';
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
  readonly effects: LogEffect[] = [];
  readonly stored: StoredVersion[] = [];

  /** In the order of the log, each once. */
  apply(entry: Entry): void {
    const decision = entry.kind === 'command' ? this.#decide(entry) : 'applied';
    this.#decisions.push(decision);
    this.#digests.push(this.#digestAfter(entry, decision));
  }

  #decide({ command: bytes }: Entry): Decision {
    const { stamp, reads } = decodeCommand(bytes);
    const request = stamp && `${stamp.session}:${stamp.sequence}`;
    if (request !== undefined && this.#requests.has(request)) return 'duplicate';
    const holds = reads.every(({ key, fingerprint }) =>
      fingerprintOf(this.#values.get(key)).equals(fingerprint),
    );
    if (!holds) return 'conflict';
    if (request !== undefined) this.#requests.add(request);
    return 'applied';
  }

  #digestAfter({ kind, command, index }: Entry, decision: Decision): number {
    let digest = this.#digests.at(-1) ?? 0;
    if (kind !== 'command' || decision !== 'applied') return digest;
    for (const operation of decodeCommand(command).operations) {
      const { key } = operation;
      digest ^= digestOf(key, this.#values.get(key));
      const value = operation.kind === 'put' ? Buffer.from(operation.value) : undefined;
      digest ^= digestOf(key, value);
      if (value === undefined) this.#values.delete(key);
      else this.#values.set(key, value);
      const version = (this.#versions.get(key) ?? 0) + 1;
      this.#versions.set(key, version);
      const text = value?.toString('latin1') ?? null;
      this.effects.push({ index, key, state: { value: text, version } });
      if (text !== null) this.stored.push({ key, version, value: text });
    }
    return digest;
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
