/**
 * Values under string keys, asked for as "all whose key is a prefix of this path". Edges hold
 * several characters, so a walk makes one comparison per edge and allocates nothing.
 */

type Node<V> = {
  /** Characters from the parent to here. */
  edge: string;
  value: V | undefined;
  /** By the first character of their edge. */
  readonly children: Map<number, Node<V>>;
};

export class RadixTree<V> {
  readonly #root: Node<V> = { edge: '', value: undefined, children: new Map() };

  get(key: string): V | undefined {
    let node = this.#root;
    let offset = 0;
    while (offset < key.length) {
      const child = node.children.get(key.charCodeAt(offset));
      if (child === undefined || !key.startsWith(child.edge, offset)) return undefined;
      offset += child.edge.length;
      node = child;
    }
    return node.value;
  }

  set(key: string, value: V): void {
    let node = this.#root;
    let offset = 0;
    while (offset < key.length) {
      const code = key.charCodeAt(offset);
      const child = node.children.get(code);
      if (child === undefined) {
        node.children.set(code, { edge: key.slice(offset), value, children: new Map() });
        return;
      }
      const shared = sharedLength(child.edge, key, offset);
      node = shared === child.edge.length ? child : split(node, child, shared);
      offset += shared;
    }
    node.value = value;
  }

  /** Fills `into` with the values of all prefixes of `path`, shortest first; returns how many. */
  collect(path: string, into: V[]): number {
    let node = this.#root;
    let offset = 0;
    let count = 0;
    for (;;) {
      if (node.value !== undefined) {
        into[count] = node.value;
        count += 1;
      }
      if (offset >= path.length || node.children.size === 0) return count;
      const child = node.children.get(path.charCodeAt(offset));
      if (child === undefined || !hasAt(path, child.edge, offset)) return count;
      offset += child.edge.length;
      node = child;
    }
  }

  forEach(visit: (value: V) => void): void {
    const nodes = [this.#root];
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      if (node.value !== undefined) visit(node.value);
      nodes.push(...node.children.values());
    }
  }
}

/** As `path.startsWith(edge, offset)`, which is several times dearer on a concatenated string. */
function hasAt(path: string, edge: string, offset: number): boolean {
  if (path.length - offset < edge.length) return false;
  for (let index = 1; index < edge.length; index += 1) {
    if (path.charCodeAt(offset + index) !== edge.charCodeAt(index)) return false;
  }
  return true;
}

function sharedLength(edge: string, key: string, offset: number): number {
  let length = 0;
  while (
    length < edge.length &&
    offset + length < key.length &&
    edge.charCodeAt(length) === key.charCodeAt(offset + length)
  ) {
    length += 1;
  }
  return length;
}

/** Puts a node between parent and child, `length` characters down the edge. */
function split<V>(parent: Node<V>, child: Node<V>, length: number): Node<V> {
  const middle: Node<V> = {
    edge: child.edge.slice(0, length),
    value: undefined,
    children: new Map([[child.edge.charCodeAt(length), child]]),
  };
  child.edge = child.edge.slice(length);
  parent.children.set(middle.edge.charCodeAt(0), middle);
  return middle;
}
