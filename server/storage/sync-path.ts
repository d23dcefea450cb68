import { open } from 'node:fs/promises';

/** Makes a file durable that was written by others; of a directory, the names in it. */
export async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
