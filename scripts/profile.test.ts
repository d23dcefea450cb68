/** The profiler of a node, interrupted: it stops what it started. */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const PROFILE = fileURLToPath(new URL('./profile.js', import.meta.url));
const PROFILES = fileURLToPath(new URL('../../results/runs/profiles/', import.meta.url));

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s ends the profiled server, too, and is told in one line',
  async (signal) => {
    const before = listProfiles();
    const child = spawn(process.execPath, [PROFILE], { stdio: ['ignore', 'pipe', 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.stdout.once('data', () => child.kill(signal));
    // `close` waits for every process that holds the pipes: the server is one of them.
    const code = await new Promise((resolve) => child.once('close', resolve));
    for (const name of listProfiles()) {
      if (!before.includes(name)) rmSync(join(PROFILES, name));
    }
    expect({ code, errors }).toEqual({ code: 130, errors: `profile: interrupted by ${signal}\n` });
  },
);

function listProfiles(): string[] {
  return existsSync(PROFILES) ? readdirSync(PROFILES) : [];
}
