/** Strongly connected components (Tarjan), and the shortest way from one node to another. */

export type Edge = { readonly from: number; readonly to: number };

/** Of more than one node: in each there is a cycle, and each cycle is in one of them. */
export function cyclicComponents(nodeCount: number, edges: readonly Edge[]): number[][] {
  const outgoing = edgesByStart(edges);
  const indexes = new Int32Array(nodeCount).fill(-1);
  const lowest = new Int32Array(nodeCount);
  const isOpen = new Uint8Array(nodeCount);
  const open: number[] = [];
  const components: number[][] = [];
  let count = 0;

  const enter = (node: number): Visit => {
    indexes[node] = lowest[node] = count;
    count += 1;
    open.push(node);
    isOpen[node] = 1;
    return { node, edges: outgoing.get(node) ?? [], next: 0 };
  };
  const lower = (node: number, to: number): void => {
    lowest[node] = Math.min(lowest[node] ?? 0, to);
  };
  const leave = (node: number): void => {
    if (lowest[node] !== indexes[node]) return;
    const component = open.splice(open.lastIndexOf(node));
    for (const member of component) isOpen[member] = 0;
    if (component.length > 1) components.push(component);
  };

  for (let root = 0; root < nodeCount; root += 1) {
    if (indexes[root] !== -1) continue;
    // By hand: a history is deeper than the stack of calls.
    const visits = [enter(root)];
    for (let visit = visits.at(-1); visit !== undefined; visit = visits.at(-1)) {
      const edge = visit.edges[visit.next];
      visit.next += 1;
      if (edge === undefined) {
        visits.pop();
        leave(visit.node);
        const parent = visits.at(-1);
        if (parent !== undefined) lower(parent.node, lowest[visit.node] ?? 0);
      } else if (indexes[edge.to] === -1) {
        visits.push(enter(edge.to));
      } else if (isOpen[edge.to] === 1) {
        lower(visit.node, indexes[edge.to] ?? 0);
      }
    }
  }
  return components;
}

type Visit = { readonly node: number; readonly edges: readonly Edge[]; next: number };

/** The edges of a shortest path, breadth first; undefined if there is none. */
export function shortestPath<E extends Edge>(
  edges: readonly E[],
  from: number,
  to: number,
): E[] | undefined {
  const outgoing = edgesByStart(edges);
  const reachedBy = new Map<number, E | undefined>([[from, undefined]]);
  const queue = [from];
  for (const node of queue) {
    if (node === to) break;
    for (const edge of outgoing.get(node) ?? []) {
      if (reachedBy.has(edge.to)) continue;
      reachedBy.set(edge.to, edge);
      queue.push(edge.to);
    }
  }
  if (!reachedBy.has(to)) return undefined;
  const path: E[] = [];
  for (let edge = reachedBy.get(to); edge !== undefined; edge = reachedBy.get(edge.from)) {
    path.unshift(edge);
  }
  return path;
}

function edgesByStart<E extends Edge>(edges: readonly E[]): Map<number, E[]> {
  const byStart = new Map<number, E[]>();
  for (const edge of edges) {
    const known = byStart.get(edge.from);
    if (known === undefined) byStart.set(edge.from, [edge]);
    else known.push(edge);
  }
  return byStart;
}
