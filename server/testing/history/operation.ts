/**
 * What clients did to keys and what they were told: the input of every checker in this folder.
 *
 * Times are nanoseconds of one monotonic clock, so two operations of different processes can be
 * compared. A process has one operation under way at a time, and none after one whose outcome is
 * unknown: that one may still take effect at any later moment.
 */

export type ReadLevel = 'stale' | 'bounded' | 'session' | 'linearizable' | 'leader';

export type Call =
  | {
      readonly kind: 'read';
      readonly level: ReadLevel;
      /** The index the client had seen, for `session`. */
      readonly token?: number | undefined;
      /** How old the answer may be, for `bounded`. */
      readonly boundNs?: number | undefined;
    }
  /** `cas` is the version that must be the current one, as in kv version 2; 0 means none. */
  | { readonly kind: 'write'; readonly value: string; readonly cas?: number | undefined }
  | { readonly kind: 'delete' };

/** A value with its version. Without versions all are 0; of a key that holds nothing, value is null. */
export type Seen = { readonly value: string | null; readonly version: number };

export type Answer =
  | ({ readonly kind: 'seen' } & Seen)
  | { readonly kind: 'written'; readonly version: number }
  /** The check-and-set found another version: an observation, with no effect. */
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'deleted' };

export type Outcome =
  /** `index` is what the answer claims to have included. */
  | { readonly kind: 'ok'; readonly answer: Answer; readonly index?: number | undefined }
  /** Certainly without effect, now and later. */
  | { readonly kind: 'fail'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string };

/** `completedNs` is Infinity where the outcome is unknown. */
export type Interval = { readonly invokedNs: number; readonly completedNs: number };

export type Operation = Interval & {
  readonly process: number;
  readonly key: string;
  readonly call: Call;
  readonly outcome: Outcome;
  /** A write with an unknown outcome whose value no read has seen (`versioned-model.ts`). */
  readonly isUnseen?: boolean | undefined;
  /** The node that was asked. */
  readonly node?: string | undefined;
};

/** A finding of a checker: what is wrong, and the operations that show it. */
export type Violation = {
  readonly rule: string;
  readonly message: string;
  readonly key: string;
  readonly evidence: readonly Operation[];
};

/** One line for a person; times in milliseconds. */
export function describeOperation(operation: Operation): string {
  const { process, key, call, outcome, node, invokedNs, completedNs } = operation;
  const end = completedNs === Infinity ? 'never' : (completedNs / 1e6).toFixed(3);
  const place = node === undefined ? '' : ` at ${node}`;
  const times = `${(invokedNs / 1e6).toFixed(3)}..${end} ms`;
  return `${times} process ${process}${place}: ${key} ${describeCall(call)} -> ${describeOutcome(outcome)}`;
}

function describeCall(call: Call): string {
  switch (call.kind) {
    case 'read': {
      const token = call.token === undefined ? '' : ` index>=${call.token}`;
      const bound = call.boundNs === undefined ? '' : ` within ${call.boundNs / 1e6} ms`;
      return `read ${call.level}${token}${bound}`;
    }
    case 'write':
      return `write ${call.value}${call.cas === undefined ? '' : ` cas=${call.cas}`}`;
    case 'delete':
      return 'delete';
  }
}

function describeOutcome(outcome: Outcome): string {
  if (outcome.kind !== 'ok') return `${outcome.kind} (${outcome.reason})`;
  const { answer, index } = outcome;
  const at = index === undefined ? '' : ` at index ${index}`;
  switch (answer.kind) {
    case 'seen':
      return `${answer.value} version ${answer.version}${at}`;
    case 'written':
      return `version ${answer.version}${at}`;
    case 'mismatch':
    case 'deleted':
      return `${answer.kind}${at}`;
  }
}
