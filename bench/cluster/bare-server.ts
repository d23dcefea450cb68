/**
 * The cheapest thing Node can do with the same bytes: a `node:http` server that sends one recorded
 * answer, whatever it is asked. What a server costs beyond this is its own doing.
 *
 * Run as a process: `node bare-server.js ANSWER.json`, where the file holds a `RecordedAnswer`.
 */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { argv } from 'node:process';

import { keepTickObject } from './tick-object.ts';

export type RecordedAnswer = {
  readonly status: number;
  /** Name, value, name, value, ...; without those that `node:http` adds by itself. */
  readonly headers: readonly string[];
  readonly body: string;
};

if (argv[1]?.endsWith('bare-server.js') && argv[2] !== undefined) serve(argv[2]);

function serve(file: string): void {
  keepTickObject();
  const answer: RecordedAnswer = JSON.parse(readFileSync(file, 'utf8'));
  const headers = [...answer.headers];
  const server = createServer((_request, response) => {
    response.writeHead(answer.status, headers);
    response.end(answer.body);
  });
  server.keepAliveTimeout = 300_000;
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address() as AddressInfo;
    process.stdout.write(`listening on ${port}\n`);
  });
  process.once('SIGTERM', () => {
    server.closeAllConnections();
    server.close();
  });
}
