import type { Mutant } from './mutants.ts';

/** Returns the text with the bug in it; throws unless there is exactly one place for it. */
export function plant({ name, file, find, replace }: Mutant, text: string): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new Error(
      `Cannot plant "${name}": ${file} holds its text ${parts.length - 1} times, not once`,
    );
  }
  return parts.join(replace);
}
