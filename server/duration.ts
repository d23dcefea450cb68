/**
 * Durations as OpenBao reads and prints them: whole seconds on the wire, Go's notation in texts
 * (go-secure-stdlib parseutil ParseDurationSecond; Go time.Duration.String).
 */

/** Go's `time.Duration` ends here (int64 nanoseconds); larger values overflow there. */
const SECONDS_MAX = 9_223_372_036;

const SECONDS_PER_UNIT: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  μs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
};

/**
 * Whole seconds of `30`, `"30"`, `"1h30m"`, `"-5s"`, `"7d"` (towards zero), or undefined if it is
 * no duration.
 */
export function parseDurationSeconds(input: unknown): number | undefined {
  if (input === null) return 0;
  if (typeof input === 'number') return boundedSeconds(input);
  if (typeof input !== 'string') return undefined;
  const seconds = parseText(input.trim());
  return seconds === undefined ? undefined : boundedSeconds(seconds);
}

/** Milliseconds of the same notations, with what they have of a fraction. */
export function parseDurationMs(text: string): number | undefined {
  const seconds = text.trim() === '' ? undefined : parseText(text.trim());
  return seconds === undefined ? undefined : seconds * 1000;
}

function parseText(text: string): number | undefined {
  if (text === '') return 0;
  if (/^[+-]?\d+$/.test(text)) return Number(text);
  if (/^[+-]?\d+d$/.test(text)) return Number(text.slice(0, -1)) * 86_400;
  // One way to read each digit: else a long text that is no duration takes its length squared.
  if (!/^[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return undefined;
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    seconds += Number(amount) * (SECONDS_PER_UNIT[unit ?? ''] ?? Number.NaN);
  }
  return text.startsWith('-') ? -seconds : seconds;
}

/** `3600` becomes `1h0m0s`, as Go prints it. */
export function formatDuration(seconds: number): string {
  const sign = seconds < 0 ? '-' : '';
  const total = Math.abs(seconds);
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const rest = total % 60;
  if (hours > 0) return `${sign}${hours}h${minutes}m${rest}s`;
  if (minutes > 0) return `${sign}${minutes}m${rest}s`;
  return `${sign}${rest}s`;
}

/** RFC 3339 with as many fraction digits as needed (Go's RFC3339Nano); empty for null. */
export function formatTime(timeMs: number | null): string {
  if (timeMs === null) return '';
  return new Date(timeMs).toISOString().replace(/\.?0*Z$/, 'Z');
}

function boundedSeconds(seconds: number): number | undefined {
  const whole = Math.trunc(seconds);
  return Math.abs(whole) <= SECONDS_MAX ? whole : undefined;
}

/** Go's notation without zero parts, as warnings show it: `768h`, `1h30m` (sdk/framework/lease.go). */
export function humanDuration(seconds: number): string {
  const text = formatDuration(seconds).replace(/m0s$/, 'm');
  return text.replace(/h0m/, 'h');
}
