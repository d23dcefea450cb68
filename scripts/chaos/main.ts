/**
 * `npm run chaos -- [--nemesis kill|pause|...|all] [--cycles N] [--seconds N] [--nodes N] [--rate N]
 * [--seed N] [--raft-threads inline|worker] [--linearizable-percent N] [--history DIR] | --check FILE`: real processes, broken under load, and their histories
 * checked; or a history that was written, checked again.
 * Exit code 1 where a check found a violation, 2 for a wrong command line.
 */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { fromJsonLines } from '../../server/testing/history/history-event.ts';
import { checkAnswers } from './audit.ts';
import { checkLines, reportLines, violationCount } from './report.ts';
import { runChaos } from './run.ts';
import { NEMESES, type NemesisName } from './stage.ts';

const SECONDS_DEFAULT = 30;
const THREADS = ['inline', 'worker'] as const;

// Nodes and namespaces are ended by the handlers of `exit`, which a signal alone does not call.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      nemesis: { type: 'string', default: 'all' },
      cycles: { type: 'string' },
      seconds: { type: 'string' },
      nodes: { type: 'string', default: '3' },
      rate: { type: 'string', default: '150' },
      seed: { type: 'string', default: '1' },
      'raft-threads': { type: 'string', default: 'inline' },
      'linearizable-percent': { type: 'string' },
      history: { type: 'string' },
      check: { type: 'string' },
    },
  });
  if (values.check !== undefined) return checkFile(values.check);
  const names = NEMESES.filter((name) => values.nemesis === 'all' || values.nemesis === name);
  if (names.length === 0) {
    console.error(`--nemesis must be one of ${NEMESES.join(', ')}, all`);
    return 2;
  }
  const raftThreads = THREADS.find((each) => each === values['raft-threads']);
  if (raftThreads === undefined) {
    console.error(`--raft-threads must be one of ${THREADS.join(', ')}`);
    return 2;
  }
  const percent = values['linearizable-percent'];
  const cyclesMax = values.cycles === undefined ? Infinity : wholeNumber(values.cycles);
  const byDefault = values.cycles === undefined ? SECONDS_DEFAULT : Infinity;
  const options = {
    cyclesMax,
    secondsMax: values.seconds === undefined ? byDefault : wholeNumber(values.seconds),
    nodeCount: wholeNumber(values.nodes),
    raftThreads,
    operationsPerSecond: wholeNumber(values.rate),
    linearizableShare: percent === undefined ? undefined : wholeNumber(percent) / 100,
    seed: wholeNumber(values.seed),
    historyDirectory: values.history,
  };
  let violations = 0;
  for (const nemesis of names) violations += await run(nemesis, options);
  return violations === 0 ? 0 : 1;
}

/** A history that was written: what it shows by itself, without the cluster. */
function checkFile(file: string): number {
  const checks = checkAnswers(fromJsonLines(readFileSync(file, 'utf8')));
  for (const line of checks.flatMap(checkLines)) console.log(line);
  return violationCount({ checks }) === 0 ? 0 : 1;
}

async function run(
  nemesis: NemesisName,
  options: Omit<Parameters<typeof runChaos>[0], 'nemesis'>,
): Promise<number> {
  const onProgress = (line: string): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
  };
  const report = await runChaos({ ...options, nemesis, onProgress });
  onProgress('');
  if (report === undefined) {
    console.log(`${nemesis}: skipped, this process lacks the right to do that (root has it)`);
    return 0;
  }
  for (const line of reportLines(report)) console.log(line);
  return violationCount(report);
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new RangeError(`Cannot read "${text}": must be a whole number`);
  }
  return number;
}
