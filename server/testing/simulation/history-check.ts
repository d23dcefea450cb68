/** Hands what the clients of a simulation were told to the checkers of `testing/history` (I14, I20). */

import { checkExactIndex } from '../history/exact-index.ts';
import { checkFreshness } from '../history/freshness.ts';
import { checkEachKey } from '../history/linearizability.ts';
import { describeOperation, type Operation, type Violation } from '../history/operation.ts';
import { registerModel } from '../history/register-model.ts';
import { checkSerializability } from '../history/serializability.ts';
import { checkSessions } from '../history/session.ts';
import { InvariantViolation, type InvariantId, type Ledger } from './invariants.ts';
import type { Transaction } from '../history/transaction.ts';
import { valueOrdersOf } from './client-transactions.ts';
import type { StateModel } from './state-model.ts';

type Told = {
  readonly history: readonly Operation[];
  readonly transactions: readonly Transaction[];
};

export function checkHistory(
  { history, transactions }: Told,
  model: StateModel,
  ledger: Ledger,
): Record<string, number> {
  const log = { effects: withoutVersions(model), lastIndex: model.lastIndex };
  const exact = checkExactIndex(history, log);
  expectNone('I14', exact.violations, ledger);
  const fresh = checkFreshness(history);
  expectNone('I14', fresh.violations, ledger);
  const sessions = checkSessions(history);
  expectNone('I14', sessions.violations, ledger);
  expectNone('I20', checkWrites(history, model), ledger);
  const serial = checkSerializability(transactions, valueOrdersOf(model.stored));
  expectNone('I14', serial.violations, ledger);
  const decided = history.filter(
    ({ call, outcome }) =>
      outcome.kind !== 'fail' &&
      (call.kind !== 'read' || (call.level === 'linearizable' && outcome.kind === 'ok')),
  );
  const verdict = checkEachKey(decided, registerModel);
  expectNone('I14', verdict.violations, ledger);
  return {
    'history: operations': history.length,
    'history: reads checked at their index': exact.checkedCount,
    'history: real-time and bounds checked': fresh.checkedCount,
    'history: session reads checked': sessions.checkedCount,
    'history: transactions checked': serial.transactionCount,
  };
}

/** Histories here have no versions: a register is written and read. */
function withoutVersions(model: StateModel): StateModel['effects'] {
  return model.effects.map((effect) => ({
    ...effect,
    state: { ...effect.state, version: 0 },
  }));
}

/** Every acknowledged write is in the log's effects, once; what failed is nowhere. */
function checkWrites(history: readonly Operation[], model: StateModel): readonly Violation[] {
  const byValue = new Map<string, number>();
  for (const { key, value } of model.stored) {
    byValue.set(`${key} ${value}`, (byValue.get(`${key} ${value}`) ?? 0) + 1);
  }
  return history.flatMap((operation): Violation[] => {
    const { call, outcome, key } = operation;
    if (call.kind !== 'write') return [];
    const count = byValue.get(`${key} ${call.value}`) ?? 0;
    const message =
      count > 1
        ? 'took effect twice'
        : outcome.kind === 'ok' && count === 0
          ? 'was acknowledged and is lost'
          : outcome.kind === 'fail' && count === 1
            ? 'was refused and took effect'
            : undefined;
    return message === undefined ? [] : [{ rule: 'writes', message, key, evidence: [operation] }];
  });
}

function expectNone(id: InvariantId, violations: readonly Violation[], ledger: Ledger): void {
  ledger.count(id);
  const [first] = violations;
  if (first === undefined) return;
  const evidence = first.evidence.map(describeOperation).join('; ');
  throw new InvariantViolation(id, `${first.rule}: ${first.message}: ${first.key}: ${evidence}`);
}
