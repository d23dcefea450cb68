/**
 * What a session is promised: it reads its own writes, and never less than it has seen.
 *
 * A session is a process and its operations with a token, in order. Checked by claimed indexes (no
 * answer below the token that was sent, none below an earlier answer) and, independently of all
 * claims, by versions: of a key a session never sees a lower one than it has seen or written.
 */

import type { Answer, Operation, Violation } from './operation.ts';

export type SessionReport = {
  readonly checkedCount: number;
  readonly violations: readonly Violation[];
};

type Known = { readonly index: number; readonly operation: Operation };

export function checkSessions(operations: readonly Operation[]): SessionReport {
  const sessions = new Map<number, Session>();
  const violations: Violation[] = [];
  let checkedCount = 0;
  for (const operation of operations.toSorted((a, b) => a.invokedNs - b.invokedNs)) {
    if (operation.outcome.kind !== 'ok') continue;
    const session = sessions.get(operation.process) ?? new Session();
    sessions.set(operation.process, session);
    const { call } = operation;
    if (call.kind === 'read' && call.level === 'session') {
      checkedCount += 1;
      violations.push(...session.check(operation));
    }
    session.learn(operation);
  }
  return { checkedCount, violations };
}

/**
 * Learns from writes and session reads. Other reads promise the session nothing, and it promises
 * nothing about them: their answers' tokens are not sent on.
 */
class Session {
  #highest: Known | undefined;
  readonly #versions = new Map<string, Known>();

  check(operation: Operation): Violation[] {
    const { call, outcome, key } = operation;
    if (outcome.kind !== 'ok' || call.kind !== 'read') return [];
    const violations: Violation[] = [];
    const report = (rule: string, message: string, before: readonly Operation[]): void => {
      violations.push({ rule, message, key, evidence: [...before, operation] });
    };
    const { index } = outcome;
    if (index !== undefined && call.token !== undefined && index < call.token) {
      report('session index', `asked for index ${call.token}, answered at ${index}`, []);
    }
    const highest = this.#highest;
    if (index !== undefined && highest !== undefined && index < highest.index) {
      report('monotonic index', `index ${index} after ${highest.index}`, [highest.operation]);
    }
    const known = this.#versions.get(key);
    const version = versionOf(outcome.answer);
    if (known !== undefined && version !== undefined && version < known.index) {
      const isOwn = known.operation.call.kind === 'write';
      const rule = isOwn ? 'read your writes' : 'monotonic reads';
      report(rule, `version ${version} after ${known.index}`, [known.operation]);
    }
    return violations;
  }

  learn(operation: Operation): void {
    const { call, outcome, key } = operation;
    if (outcome.kind !== 'ok') return;
    if (call.kind === 'read' && call.level !== 'session') return;
    const { index } = outcome;
    if (index !== undefined && (this.#highest?.index ?? -1) < index) {
      this.#highest = { index, operation };
    }
    const version = versionOf(outcome.answer);
    if (version !== undefined && (this.#versions.get(key)?.index ?? -1) < version) {
      this.#versions.set(key, { index: version, operation });
    }
  }
}

function versionOf(answer: Answer): number | undefined {
  return answer.kind === 'seen' || answer.kind === 'written' ? answer.version : undefined;
}
