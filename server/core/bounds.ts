/** Of two bounds the lower, where 0 stands for none. */
export function lesserBound(left: number, right: number): number {
  return left === 0 || right === 0 ? Math.max(left, right) : Math.min(left, right);
}
