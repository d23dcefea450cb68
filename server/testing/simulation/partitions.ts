/**
 * The ways in which a network falls apart, as the set of directed links that are cut. Pure: the
 * draws come with the nemesis action, so that an action means the same whatever happened before.
 */

import type { NodeId } from '../../raft/message.ts';

export const PARTITION_KINDS = [
  'uniformSize',
  'uniformPartition',
  'isolateSingle',
  'isolateLeader',
  'majorityRing',
  'bridge',
  'sendOnly',
  'receiveOnly',
  'clientOnly',
  'links',
] as const;

export type PartitionKind = (typeof PARTITION_KINDS)[number];

export type Partition = {
  /** `from>to` */
  readonly cutLinks: ReadonlySet<string>;
  /** Nodes that clients do not reach. */
  readonly cutOffClients: ReadonlySet<NodeId>;
};

export const NO_PARTITION: Partition = { cutLinks: new Set(), cutOffClients: new Set() };

export type PartitionSubject = {
  readonly ids: readonly NodeId[];
  readonly leader: NodeId | undefined;
  /** A seeded stream of this action alone. */
  readonly draw: () => number;
};

export function partition(kind: PartitionKind, subject: PartitionSubject): Partition {
  const { ids, draw } = subject;
  const order = shuffled(ids, draw);
  const lone = (kind === 'isolateLeader' ? subject.leader : undefined) ?? order[0] ?? '';
  if (kind === 'clientOnly') {
    const count = 1 + Math.floor(draw() * ids.length);
    return { cutLinks: new Set(), cutOffClients: new Set(order.slice(0, count)) };
  }
  const isCut = cutRule(kind, { order, lone, draw });
  const cutLinks = new Set<string>();
  for (const from of ids) {
    for (const to of ids) if (from !== to && isCut(from, to)) cutLinks.add(`${from}>${to}`);
  }
  return { cutLinks, cutOffClients: new Set() };
}

type Draws = {
  readonly order: readonly NodeId[];
  readonly lone: NodeId;
  readonly draw: () => number;
};
type CutRule = (from: NodeId, to: NodeId) => boolean;

function cutRule(kind: Exclude<PartitionKind, 'clientOnly'>, draws: Draws): CutRule {
  const { order, lone, draw } = draws;
  switch (kind) {
    case 'uniformSize': {
      const size = Math.floor(draw() * (order.length + 1));
      return bySide((id) => order.indexOf(id) < size);
    }
    case 'uniformPartition': {
      const sides = new Map(order.map((id) => [id, draw() < 0.5]));
      return bySide((id) => sides.get(id) === true);
    }
    case 'isolateSingle':
    case 'isolateLeader':
      return bySide((id) => id === lone);
    case 'majorityRing': {
      // Everyone sees a majority, and no two see the same one.
      const reach = Math.floor((Math.floor(order.length / 2) + 1) / 2);
      return (from, to) => {
        const distance = Math.abs(order.indexOf(from) - order.indexOf(to));
        return Math.min(distance, order.length - distance) > Math.max(1, reach);
      };
    }
    case 'bridge': {
      const middle = Math.floor(order.length / 2);
      const bridge = order[middle];
      const bothSides = bySide((id) => order.indexOf(id) < middle);
      return (from, to) => from !== bridge && to !== bridge && bothSides(from, to);
    }
    case 'sendOnly':
      return (_, to) => to === lone;
    case 'receiveOnly':
      return (from) => from === lone;
    case 'links':
      return () => draw() < 0.3;
  }
}

function bySide(isLeft: (id: NodeId) => boolean): CutRule {
  return (from, to) => isLeft(from) !== isLeft(to);
}

function shuffled(ids: readonly NodeId[], draw: () => number): NodeId[] {
  const rest = [...ids];
  const result: NodeId[] = [];
  while (rest.length > 0) result.push(...rest.splice(Math.floor(draw() * rest.length), 1));
  return result;
}
