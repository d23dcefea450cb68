import { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Server } from '../raft/message.ts';
import { Callers } from './callers.ts';
import type { Hello } from './control-frames.ts';

const APPLIED = 50;

function known(instance?: string): Server {
  const server = { id: 'n2', address: 'h:2', suffrage: 'voter' } as const;
  return instance === undefined ? server : { ...server, instance };
}

function hello(fromInstance: string, memberIndex: number, change: Partial<Hello> = {}): Hello {
  const parties = { from: 'n2', fromInstance, to: 'n1', toInstance: '' };
  return {
    ...{ kind: 'hello', purpose: 'control', clusterId: 'c', ...parties },
    ...{ memberIndex, address: 'h:2', ...change },
  };
}

/** What `n1` knows of `n2`, and who calls as that. */
function create(server: Server | undefined) {
  const membership = { server, appliedIndex: APPLIED };
  const callers = new Callers({
    serverOf: (id) => (id === 'n2' ? membership.server : undefined),
    appliedIndex: () => membership.appliedIndex,
  });
  const connect = (greeting: Hello) => {
    const caller = callers.admit(greeting);
    const socket = new Socket();
    socket.on('close', () => undefined);
    caller.sockets.set(greeting.purpose, socket);
    return { caller, socket };
  };
  return { membership, callers, connect };
}

describe('who calls as a node', () => {
  test.each([
    { name: 'the one that is configured', server: known('B'), memberIndex: 0, isMember: true },
    { name: 'any, if none is configured', server: known(), memberIndex: 0, isMember: true },
    { name: 'a stranger', server: undefined, memberIndex: 99, isMember: false },
    { name: 'a successor', server: known('A'), memberIndex: APPLIED + 1, isMember: false },
  ])('$name is admitted; its answers count: $isMember', ({ server, memberIndex, isMember }) => {
    const { caller } = create(server).connect(hello('B', memberIndex));
    expect(caller.isMember).toBe(isMember);
  });

  test.each([
    { name: 'it knew of itself as late as this node does', memberIndex: APPLIED },
    { name: 'it knew of itself earlier', memberIndex: 1 },
    { name: 'it knows nothing of itself', memberIndex: 0 },
  ])('another instance is replaced if $name', ({ memberIndex }) => {
    const { connect } = create(known('B'));
    expect(() => connect(hello('A', memberIndex))).toThrow('node n2 has been replaced');
  });
});

describe('two instances at once', () => {
  test('a successor takes the place of the one before it, which is refused meanwhile', () => {
    const { connect } = create(known('A'));
    const old = connect(hello('A', 40));
    const successor = connect(hello('B', 60));
    expect([old.socket.destroyed, successor.socket.destroyed]).toEqual([true, false]);
    expect(() => connect(hello('A', 40))).toThrow('another instance of the node is connected');
    const later = connect(hello('C', 70));
    expect([successor.socket.destroyed, later.socket.destroyed]).toEqual([true, false]);
    expect(() => connect(hello('B', 60))).toThrow('another instance of the node is connected');
  });

  test('strangers do not drive each other out', () => {
    const { connect } = create(undefined);
    connect(hello('A', 0));
    expect(() => connect(hello('B', 0))).toThrow('another instance of the node is connected');
  });

  test('one instance has all its connections under one standing, from one place', () => {
    const { connect, membership, callers } = create(undefined);
    const control = connect(hello('B', 0));
    const bulk = connect(hello('B', 0, { purpose: 'bulk' }));
    expect(() => connect(hello('B', 0, { address: 'h:9' }))).toThrow('connected from elsewhere');
    membership.server = known('B');
    expect(callers.reconsider()).toEqual([]);
    expect([control.caller.isMember, bulk.caller.isMember]).toEqual([true, true]);
  });
});

describe('a configuration that takes effect', () => {
  test('turns out whom it replaced, by way of nobody', () => {
    const { callers, connect, membership } = create(known('A'));
    const { caller } = connect(hello('A', 40));
    membership.server = undefined;
    expect(callers.reconsider()).toEqual([]);
    expect(caller.isMember).toBe(false);
    membership.server = known('B');
    membership.appliedIndex = 60;
    expect(callers.reconsider()).toEqual([caller]);
    expect(callers.get('n2')).toBeUndefined();
  });

  test('makes a successor a member', () => {
    const { callers, connect, membership } = create(known('A'));
    const { caller } = connect(hello('B', 60));
    expect([callers.meant('n2'), callers.isSuccessorMeant('n2')]).toEqual(['B', true]);
    membership.server = known('B');
    membership.appliedIndex = 60;
    expect(callers.reconsider()).toEqual([]);
    expect(caller.isMember).toBe(true);
    expect([callers.meant('n2'), callers.isSuccessorMeant('n2')]).toEqual(['B', false]);
  });
});

describe('who is meant by an id', () => {
  test.each([
    { name: 'who is configured', server: known('A'), expected: 'A' },
    { name: 'anybody, without an instance', server: known(), expected: '' },
    { name: 'anybody, as long as nobody is known', server: undefined, expected: '' },
  ])('$name', ({ server, expected }) => {
    expect(create(server).callers.meant('n2')).toBe(expected);
  });

  test('a stranger that called, and a successor, as long as they are connected', () => {
    for (const [server, after] of [
      [undefined, ''],
      [known('A'), 'A'],
    ] as const) {
      const { callers, connect } = create(server);
      const { caller } = connect(hello('B', 60));
      expect(callers.meant('n2')).toBe('B');
      caller.sockets.clear();
      expect(callers.forgetStranger(caller)).toBe(server === undefined);
      expect(callers.meant('n2')).toBe(after);
    }
  });
});
