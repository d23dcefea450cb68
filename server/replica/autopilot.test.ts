import { describe, expect, test } from 'vitest';
import type { AutopilotConfiguration } from '../core/ports.ts';
import type { Server } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import {
  DEFAULT_AUTOPILOT,
  findDemotions,
  findPromotions,
  findRemovals,
  HealthWatch,
} from './autopilot.ts';
import type { Observation } from './autopilot.ts';
import { TICK_MS } from './tick-schedule.ts';

type Row = {
  readonly suffrage?: Server['suffrage'];
  readonly quietMs?: number;
  readonly matchIndex?: number;
  readonly appliedIndex?: number;
  readonly kind?: 'probe' | 'replicate' | 'snapshot';
};

const LAST_INDEX = 5000;

/** `n1` leads at term 4; of the others the row says what is not as it should be. */
function observe(
  rows: { readonly [id: string]: Row },
  fields: Partial<Omit<Observation, 'configuration'>> & {
    readonly configuration?: Partial<AutopilotConfiguration>;
  } = {},
): Observation {
  const all = { n1: {}, ...rows };
  const servers = Object.entries(all).map(
    ([id, { suffrage = 'voter' }]: [string, Row]): Server => ({ id, address: `${id}:1`, suffrage }),
  );
  const progress = new Map(
    Object.entries(all).map(([id, row]: [string, Row]) => [
      id,
      {
        matchIndex: LAST_INDEX,
        nextIndex: LAST_INDEX + 1,
        kind: 'replicate' as const,
        appliedIndex: LAST_INDEX,
        recentActive: true,
        ...row,
        quietTicks: (row.quietMs ?? 0) / TICK_MS,
      },
    ]),
  );
  const raft: RaftStatus = {
    id: 'n1',
    role: 'leader',
    leaderId: 'n1',
    currentTerm: 4,
    votedFor: 'n1',
    commitIndex: LAST_INDEX,
    appliedIndex: LAST_INDEX,
    firstIndex: 1,
    lastIndex: LAST_INDEX,
    durableIndex: LAST_INDEX,
    configuration: { servers },
    transferTarget: null,
    hasLease: false,
    freshness: undefined,
    progress,
  };
  return {
    nowMs: 0,
    raft,
    isNonVoter: () => false,
    ...fields,
    configuration: { ...DEFAULT_AUTOPILOT, ...fields.configuration },
  };
}

function stateOf(observation: Observation): ReturnType<HealthWatch['observe']> {
  return new HealthWatch(observation).observe(observation);
}

describe('a server is healthy', () => {
  test.each<[string, Row, boolean]>([
    ['led, near and heard of', {}, true],
    ['at the threshold of contact', { quietMs: 10_000 }, true],
    ['beyond it: not', { quietMs: 10_000 + TICK_MS }, false],
    ['as far behind as it may be', { matchIndex: LAST_INDEX - 1000 }, true],
    ['one entry more: not', { matchIndex: LAST_INDEX - 1001 }, false],
    ['however much it has yet to flush', { appliedIndex: 0 }, true],
    ['without a word in this term: not', { matchIndex: 0 }, false],
  ])('%s', (_, row, isHealthy) => {
    const state = stateOf(observe({ n2: row, n3: {} }));
    expect(state.servers.map((server) => server.isHealthy)).toEqual([true, isHealthy, true]);
    expect(state.isHealthy).toBe(isHealthy);
    expect(state.servers[1]).toMatchObject({ lastContactMs: row.quietMs ?? 0, status: 'voter' });
    expect(state.servers[1]?.lastTerm).toBe(row.matchIndex === 0 ? 0 : 4);
  });

  test('who has made durable what the log held a threshold ago; who has not, is stuck', () => {
    const watch = new HealthWatch(observe({ n2: {} }));
    const stateAt = (nowMs: number, lastIndex: number, appliedIndex: number): boolean => {
      const all = { matchIndex: lastIndex, appliedIndex };
      const observation = observe({ n2: all }, { nowMs });
      const raft = { ...observation.raft, lastIndex };
      return watch.observe({ ...observation, raft }).servers[1]?.isHealthy === true;
    };
    expect(stateAt(0, 20_000, 0)).toBe(true);
    expect(stateAt(9999, 900_000, 0)).toBe(true);
    expect(stateAt(10_000, 900_000, 18_999)).toBe(false);
    expect(stateAt(10_200, 900_000, 19_000)).toBe(true);
    // What counts goes on with the time.
    expect(stateAt(19_998, 900_000, 19_000)).toBe(true);
    expect(stateAt(19_999, 900_000, 19_000)).toBe(false);
  });

  test('for as long as nothing changes about it', () => {
    const first = observe({ n2: {} });
    const watch = new HealthWatch(first);
    const stable = (rows: { n2: Row }, nowMs: number): number | undefined =>
      watch.observe(observe(rows, { nowMs })).servers[1]?.stableMs;
    expect(stable({ n2: {} }, 0)).toBe(0);
    expect(stable({ n2: {} }, 700)).toBe(700);
    expect(stable({ n2: { quietMs: 20_000 } }, 900)).toBe(0);
    expect(stable({ n2: { quietMs: 20_000 } }, 1000)).toBe(100);
    expect(stable({ n2: {} }, 1200)).toBe(0);
  });
});

test.each([
  { healthy: ['n2', 'n3'], tolerance: 1 },
  { healthy: ['n2'], tolerance: 0 },
  { healthy: [], tolerance: 0 },
  { healthy: ['n2', 'n3', 'n4', 'n5'], tolerance: 2 },
])('of $healthy and the leader so many may fail: $tolerance', ({ healthy, tolerance }) => {
  const ids = healthy.length > 2 ? ['n2', 'n3', 'n4', 'n5'] : ['n2', 'n3'];
  const rows = ids.map((id) => [id, healthy.includes(id) ? {} : { quietMs: 60_000 }] as const);
  // A learner counts for nothing.
  const learner = { suffrage: 'learner' } as const;
  const state = stateOf(observe({ ...Object.fromEntries(rows), n9: learner }));
  expect(state.failureTolerance).toBe(tolerance);
  expect(state.voters).toEqual(['n1', ...ids]);
});

describe('findPromotions()', () => {
  const learner = { suffrage: 'learner' } as const;
  test.each<[string, Row, string[]]>([
    ['one that has caught up', learner, ['n2']],
    ['a voter', {}, []],
    ['one at the limit of lag', { ...learner, matchIndex: LAST_INDEX - 100 }, ['n2']],
    ['one beyond it', { ...learner, matchIndex: LAST_INDEX - 101 }, []],
    ['one that gets a snapshot', { ...learner, kind: 'snapshot' }, []],
    ['one that was heard just in time', { ...learner, quietMs: 2000 }, ['n2']],
    ['one that is silent', { ...learner, quietMs: 2000 + TICK_MS }, []],
    ['an unhealthy one', { ...learner, quietMs: 60_000 }, []],
  ])('%s', (_, row, promoted) => {
    const observation = observe({ n2: row });
    expect(findPromotions(stateOf(observation), observation, 0)).toEqual(promoted);
  });

  test('never one that is to stay without a vote', () => {
    const observation = observe({ n2: learner }, { isNonVoter: (id) => id === 'n2' });
    expect(findPromotions(stateOf(observation), observation, 0)).toEqual([]);
    expect(stateOf(observation).nonVoters).toEqual(['n2']);
  });

  test('only after the stabilization time, but for a leader that has not led so long itself', () => {
    const watch = new HealthWatch(observe({ n2: {} }));
    const promoted = (rows: { [id: string]: Row }, nowMs: number): string[] => {
      const observation = observe(rows, { nowMs });
      const state = watch.observe(observation);
      return findPromotions(state, observation, watch.stabilizationMs(observation));
    };
    expect(promoted({ n2: learner }, 1000)).toEqual(['n2']);
    expect(promoted({ n2: {}, n3: learner }, 20_000)).toEqual([]);
    expect(promoted({ n2: {}, n3: learner }, 29_999)).toEqual([]);
    expect(promoted({ n2: {}, n3: learner }, 30_000)).toEqual(['n3']);
  });
});

test('findDemotions() finds voters that are to be none, and spares the leader', () => {
  const isNonVoter = (id: string): boolean => id !== 'n3';
  const observation = observe({ n2: {}, n3: {}, n4: { suffrage: 'learner' } }, { isNonVoter });
  expect(findDemotions(stateOf(observation))).toEqual(['n2']);
});

describe('findRemovals()', () => {
  const DAY_MS = 86_400_000;
  const dead = { quietMs: DAY_MS + TICK_MS };
  const deadLearner = { ...dead, suffrage: 'learner' } as const;
  const removed = (
    rows: { readonly [id: string]: Row },
    configuration: Partial<AutopilotConfiguration>,
    isNonVoter: (id: string) => boolean = () => false,
  ): string[] => {
    const observation = observe(rows, {
      configuration: { cleanupDeadServers: true, minQuorum: 3, ...configuration },
      isNonVoter,
    });
    return findRemovals(stateOf(observation), observation.configuration);
  };
  const five = { n2: {}, n3: {}, n4: {}, n5: {} };

  test('nobody, unless that is asked for', () => {
    expect(removed({ ...five, n5: dead }, { cleanupDeadServers: false })).toEqual([]);
    expect(removed({ ...five, n5: { quietMs: DAY_MS } }, {})).toEqual([]);
    expect(removed({ ...five, n5: dead }, {})).toEqual(['n5']);
  });

  test.each([
    { minQuorum: 5, gone: [] },
    { minQuorum: 4, gone: ['n4'] },
    { minQuorum: 3, gone: ['n4', 'n5'] },
  ])('at least $minQuorum that vote are left: $gone', ({ minQuorum, gone }) => {
    expect(removed({ ...five, n4: dead, n5: dead }, { minQuorum })).toEqual(gone);
  });

  test('never a majority, however low the minimum', () => {
    const rows = { n2: {}, n3: dead, n4: dead, n5: dead };
    expect(removed(rows, { minQuorum: 0 })).toEqual(['n3', 'n4']);
    expect(removed({ n2: dead }, { minQuorum: 0 })).toEqual([]);
  });

  test('those without a vote first, and those that never get one without limit', () => {
    const rows = { n2: {}, n3: dead, n4: deadLearner, n5: deadLearner };
    expect(removed(rows, { minQuorum: 2 }, (id) => id === 'n5')).toEqual(['n4', 'n5', 'n3']);
    expect(removed(rows, { minQuorum: 4 }, (id) => id === 'n5')).toEqual(['n5']);
  });
});
