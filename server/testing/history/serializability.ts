/**
 * Whether transactions could have happened one after the other (Adya's anomalies, found as Elle
 * does: by cycles of who must come before whom).
 *
 * - torn: some of its writes took effect, and others did not;
 * - phantom, G1a, G1b: it read what nobody wrote, what failed, what its writer itself replaced;
 * - G0, G1c: a cycle of writes; of writes and reads of them;
 * - G-single, G2: a cycle with one read of what was replaced (read skew), or with several (write
 *   skew).
 *
 * Of the cycles that are tangled, the one that is named is the worst.
 */

import assert from 'node:assert/strict';

import { cyclicComponents, shortestPath } from './cycle-search.ts';
import { dependenciesOf, type Dependency, type DependencyKind } from './dependency-graph.ts';
import type { Violation } from './operation.ts';
import type { Transaction, TransactionRead, TransactionWrite, ValueOrders } from './transaction.ts';

export type SerializabilityReport = {
  readonly transactionCount: number;
  readonly dependencyCount: number;
  readonly violations: readonly Violation[];
};

type CycleRule = {
  readonly rule: string;
  readonly first: DependencyKind;
  readonly others: readonly DependencyKind[];
};

/** The worst first. */
const CYCLE_RULES: readonly CycleRule[] = [
  { rule: 'G0', first: 'ww', others: ['ww'] },
  { rule: 'G1c', first: 'wr', others: ['ww', 'wr'] },
  { rule: 'G-single', first: 'rw', others: ['ww', 'wr'] },
  { rule: 'G2', first: 'rw', others: ['ww', 'wr', 'rw'] },
];

/** `orders` may hold what transactions replaced themselves, and values that none of them wrote. */
export function checkSerializability(
  transactions: readonly Transaction[],
  orders: ValueOrders,
): SerializabilityReport {
  const history = new TransactionHistory(transactions, orders);
  const violations = transactions.flatMap((transaction, position) => [
    ...history.checkWrites(transaction),
    ...history.checkReads(transaction, position),
  ]);
  const dependencies = history.dependencies();
  const components = cyclicComponents(transactions.length, dependencies);
  for (const component of components) {
    violations.push(worstCycle(transactions, component, dependencies));
  }
  return {
    transactionCount: transactions.length,
    dependencyCount: dependencies.length,
    violations,
  };
}

class TransactionHistory {
  readonly #transactions: readonly Transaction[];
  readonly #orders: ValueOrders;
  readonly #writers = new Map<string, number>();
  readonly #effective: ReadonlySet<string>;
  /** By value: what its own writer replaced it with. */
  readonly #replaced = new Map<string, string>();

  constructor(transactions: readonly Transaction[], orders: ValueOrders) {
    this.#transactions = transactions;
    this.#orders = orders;
    this.#effective = new Set([...orders.values()].flat());
    transactions.forEach(({ writes }, position) => {
      const last = new Map<string, string>();
      for (const { key, value } of writes) {
        assert(!this.#writers.has(value), `two writes of ${value}: values must be unique`);
        this.#writers.set(value, position);
        const before = last.get(key);
        if (before !== undefined) this.#replaced.set(before, value);
        last.set(key, value);
      }
    });
  }

  dependencies(): Dependency[] {
    const orders = new Map(
      [...this.#orders].map(([key, values]) => [
        key,
        values.filter((value) => !this.#replaced.has(value)),
      ]),
    );
    return dependenciesOf(this.#transactions, orders, this.#writers);
  }

  /** All of them took effect, or none; and that is what was said. */
  checkWrites({ name, outcome, writes }: Transaction): Violation[] {
    const lasting = writes.filter(({ value }) => !this.#replaced.has(value));
    const [done, missing] = [true, false].map((isDone) =>
      lasting.filter(({ value }) => this.#effective.has(value) === isDone),
    ) as [TransactionWrite[], TransactionWrite[]];
    const [first] = outcome === 'failed' ? done : missing;
    if (first === undefined) return [];
    if (outcome === 'failed')
      return [violation('dirty write', first.key, `${name} failed, and wrote ${first.value}`)];
    if (done.length > 0)
      return [violation('torn', first.key, `${name} took effect without ${first.value}`)];
    if (outcome === 'unknown') return [];
    return [
      violation('lost', first.key, `${name} was acknowledged, and ${first.value} is not there`),
    ];
  }

  checkReads({ name, reads }: Transaction, reader: number): Violation[] {
    return reads.flatMap((read) => {
      const rule = this.#ruleOf(read, reader);
      return rule === undefined ? [] : [violation(rule, read.key, `${name} read ${read.value}`)];
    });
  }

  #ruleOf({ value }: TransactionRead, reader: number): string | undefined {
    if (value === null) return undefined;
    const writer = this.#writers.get(value);
    if (writer === undefined) return this.#effective.has(value) ? undefined : 'phantom';
    const replacement = this.#replaced.get(value);
    if (writer !== reader && replacement !== undefined && this.#effective.has(replacement))
      return 'G1b';
    return this.#effective.has(value) ? undefined : 'G1a';
  }
}

function worstCycle(
  transactions: readonly Transaction[],
  component: readonly number[],
  dependencies: readonly Dependency[],
): Violation {
  const members = new Set(component);
  const inside = dependencies.filter(({ from, to }) => members.has(from) && members.has(to));
  for (const cycleRule of CYCLE_RULES) {
    const cycle = findCycle(inside, cycleRule);
    if (cycle === undefined) continue;
    const nameOf = (position: number): string => transactions[position]?.name ?? '';
    const steps = cycle.map(({ from, kind, key }) => `${nameOf(from)} -${kind} ${key}->`);
    const [first] = cycle;
    const message = `${steps.join(' ')} ${nameOf(first?.from ?? 0)}`;
    return violation(cycleRule.rule, first?.key ?? '', message);
  }
  throw new Error('a component without a cycle');
}

function findCycle(
  inside: readonly Dependency[],
  { first, others }: CycleRule,
): Dependency[] | undefined {
  const usable = inside.filter(({ kind }) => others.includes(kind));
  for (const dependency of inside) {
    if (dependency.kind !== first) continue;
    const back = shortestPath(usable, dependency.to, dependency.from);
    if (back !== undefined) return [dependency, ...back];
  }
  return undefined;
}

function violation(rule: string, key: string, message: string): Violation {
  return { rule, message, key, evidence: [] };
}
