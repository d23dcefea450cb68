/** The path patterns of a backend, compiled: exact, `prefix*`, and `+` for any one segment. */

export type PathMatcher = (path: string) => boolean;

export function compilePaths(patterns: readonly string[]): PathMatcher {
  const exact = new Set(patterns.filter((pattern) => !/[*+]/.test(pattern)));
  const prefixes = patterns
    .filter((pattern) => pattern.endsWith('*') && !hasSegmentWildcard(pattern))
    .map((pattern) => pattern.slice(0, -1));
  const wildcards = patterns.filter(hasSegmentWildcard).map(compileSegments);
  if (patterns.length === 0) return () => false;
  return (path) =>
    exact.has(path) ||
    prefixes.some((prefix) => path.startsWith(prefix)) ||
    wildcards.some((matches) => matches(path));
}

function hasSegmentWildcard(pattern: string): boolean {
  return pattern.split('/').some((segment) => segment === '+' || segment === '+*');
}

function compileSegments(pattern: string): PathMatcher {
  const isPrefix = pattern.endsWith('*');
  const segments = (isPrefix ? pattern.slice(0, -1) : pattern).split('/');
  const last = segments.length - 1;
  return (path) => {
    const actual = path.split('/');
    if (isPrefix ? actual.length < segments.length : actual.length !== segments.length) {
      return false;
    }
    return segments.every((segment, position) => {
      const candidate = actual[position] ?? '';
      if (segment === '+') return candidate !== '';
      return isPrefix && position === last ? candidate.startsWith(segment) : candidate === segment;
    });
  };
}
