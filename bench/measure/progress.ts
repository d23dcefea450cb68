/**
 * What a run is doing and how long it will still take. On a terminal one line that is rewritten
 * (at most twice a second: drawing costs CPU that is being measured), elsewhere one line a step.
 */

export type Step = { readonly name: string; readonly estimateMs: number };

export type Progress = {
  /** Begins the next planned step. */
  next(name: string): void;
  done(): void;
};

const REDRAW_MS = 500;

export function createProgress(steps: readonly Step[], output: NodeJS.WriteStream): Progress {
  const total = steps.reduce((sum, step) => sum + step.estimateMs, 0);
  const startedMs = performance.now();
  let current = -1;
  let stepStartedMs = startedMs;
  let timer: NodeJS.Timeout | undefined;

  /** Later steps count by estimate, the current one by what is left of it. */
  function leftMs(): number {
    const step = steps[current];
    const later = steps.slice(current + 1).reduce((sum, { estimateMs }) => sum + estimateMs, 0);
    const spentMs = performance.now() - stepStartedMs;
    return later + Math.max(0, (step?.estimateMs ?? 0) - spentMs);
  }

  function draw(): void {
    const left = leftMs();
    const share = Math.min(1, 1 - left / total);
    const bar = '='.repeat(Math.round(share * 24)).padEnd(24, ' ');
    const line = `[${bar}] ${duration(left).padStart(5)} left  ${steps[current]?.name ?? ''}`;
    output.write(`\r\u001b[K${line.slice(0, (output.columns ?? 80) - 1)}`);
  }

  return {
    next(name) {
      const position = steps.findIndex((step, index) => index > current && step.name === name);
      if (position >= 0) current = position;
      stepStartedMs = performance.now();
      if (!output.isTTY) {
        output.write(`${duration(leftMs()).padStart(5)} left  ${name}\n`);
        return;
      }
      draw();
      timer ??= setInterval(draw, REDRAW_MS).unref();
    },
    done() {
      clearInterval(timer);
      if (output.isTTY) output.write('\r\u001b[K');
    },
  };
}

function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
