/**
 * The report: one self-contained page, no script, no network. A pure function of the run; its
 * order is the order of a reader's questions: what is the answer, can I trust it, what does it buy,
 * what does it cost, how stale is it, how do I get the same.
 */

import type {
  Forwarding,
  Lag,
  LagNode,
  Latency,
  Run,
  Scaling,
  ScalingSeries,
  ScopedGate,
} from '../run.ts';
import type { GateEffect, Measured } from '../analysis/gates.ts';
import {
  CPU_LEGEND,
  forwardingCpuChart,
  LAG_LEGEND,
  lagCaption,
  lagChart,
  lagDistributionChart,
  PATH_LEGEND,
  SCALING_LEGEND,
  scalingChart,
  spectrumChart,
  type LegendItem,
} from './charts.ts';
import {
  FACTOR_SPREAD_MAX,
  formatBound,
  formatInterval,
  formatNumber,
  formatUs,
  formatValue,
  judgeFactor,
  modeName,
  pathName,
  percent,
  valueOf,
} from './format.ts';
import { PAGE_STYLE } from './page-style.ts';
import { isolatedPush } from './verdict.ts';

const REFUSALS_SHOWN_MAX = 40;

export function renderPage(run: Run): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>baobench ${escape(run.runId)}</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
<main>
<h1>baobench · ${escape(run.startedAt)} · commit ${escape(run.suite.commit)}${run.suite.isDirty ? ' (modified)' : ''}</h1>
${verdict(run)}
${trust(run)}
${run.scaling === null ? '' : scaling(run.scaling)}
${run.forwarding === null ? '' : forwarding(run.forwarding)}
${run.lag === null ? '' : lag(run.lag)}
${environment(run)}
${reproduce(run)}
</main>
</body>
</html>
`;
}

function verdict(run: Run): string {
  const largest = run.scaling?.series[0]?.points
    .filter(({ mode }) => mode === 'standby-reads')
    .toSorted((a, b) => b.nodes - a.nodes)[0];
  const forwarded = run.forwarding?.differences.find(
    ({ subject }) => subject === 'write-forwarded',
  );
  const isolated = isolatedPush(run);
  const cards = [
    largest === undefined
      ? ''
      : card(
          judgeFactor(largest.speedup),
          `the load of one node, carried by ${largest.nodes}`,
          (factor) => `${formatValue(factor)}×`,
        ),
    forwarded === undefined
      ? ''
      : card(
          forwarded.responseP50Us,
          'for a write that has to be forwarded, median difference',
          (difference) => signed(difference),
          'us',
        ),
    isolated === undefined
      ? ''
      : card(isolated.upper.p50, 'until a write shows on every standby, p50', formatBound, 'none'),
  ];
  const badge = { valid: 'VALID', 'partly-refused': 'PARTLY REFUSED', invalid: 'INVALID' }[
    run.verdict.status
  ];
  return `<section class="verdict ${run.verdict.status}" id="verdict">
<span class="badge">${badge}</span>
<p>${escape(run.verdict.sentence)}</p>
</section>
<div class="cards">${cards.join('')}</div>`;
}

type Shown = Extract<Measured, { value: number }>;

function card(
  measured: Measured,
  label: string,
  format: (measured: Shown) => string,
  interval: 'number' | 'us' | 'none' = 'number',
): string {
  const isRefused = 'refused' in measured;
  const value = isRefused ? 'refused' : format(measured);
  const known = interval === 'none' ? '' : formatInterval(measured, interval).trim();
  const note = isRefused ? measured.refused : known;
  return `<div class="card"><strong>${escape(value)}</strong>${escape(label)}<br><small>${escape(note)}</small></div>`;
}

function signed(difference: Shown): string {
  return `${difference.value < 0 ? '' : '+'}${formatValue(difference, 'us')}`;
}

const EFFECTS: { readonly [effect in GateEffect]: string } = {
  'refuse-throughput': 'throughput',
  'refuse-latency': 'latencies',
  'refuse-quantile': 'the quantile and those above it',
  'hollow-point': 'the factor of this point',
  'refuse-phase': 'all figures of this cell',
  'rate-not-sustained': 'latencies: the offered rate was not carried',
  'invalidate-run': 'the whole run',
};

/** Points of scaling and phases of lag stand or fall as a whole. */
function takenAway({ effect, scope }: ScopedGate): string {
  const isWhole = /^(?:scaling|lag)\//.test(scope) && effect !== 'hollow-point';
  return EFFECTS[isWhole ? 'refuse-phase' : effect];
}

function trust(run: Run): string {
  const failed = run.gates.filter(({ pass }) => !pass);
  const boxes = run.gates
    .map((gate) => {
      const title = `${gate.id} · ${gate.scope} · ${formatNumber(gate.value)} (limit ${formatNumber(gate.limit)})`;
      return `<li class="${gate.pass ? 'pass' : 'fail'}" title="${escape(title)}"></li>`;
    })
    .join('');
  const refusals = failed
    .slice(0, REFUSALS_SHOWN_MAX)
    .map((gate) =>
      row([gate.id, gate.scope, formatNumber(gate.value), gate.reason, takenAway(gate)]),
    );
  const more = failed.length - refusals.length;
  return `<section id="trust">
<h2>Can it be trusted?</h2>
<p>${run.gates.length - failed.length} of ${run.gates.length} validity gates passed. What a failed gate
takes away is said beside it; where a figure is refused, the reason stands in its place.</p>
<ul class="gates">${boxes}</ul>
${failed.length === 0 ? '' : table(['failed gate', 'guards', 'value', 'reason', 'takes away'], refusals)}
${more === 0 ? '' : `<p class="muted">And ${more} more: see run.json.</p>`}
</section>`;
}

function scaling(result: Scaling): string {
  const { isolation, quotaCores, periodUs, sliceMs } = result;
  const hosts =
    isolation === 'modelled'
      ? `No CPU groups could be made here: capacity is modelled for ${quotaCores} core per node from measured demand.`
      : `Every node has ${quotaCores} core of its own (${isolation}, period ${periodUs / 1000} ms).`;
  return `<section id="scaling">
<h2>Throughput scaling: what do standbys buy?</h2>
<p>${hosts} Capacity is the quota divided by the CPU that the busiest node spends per request of the
cluster. Both modes run on the same binary and are driven in turn, in slices of
${formatNumber(sliceMs / 1000)} s, each together with single reference nodes: the factor is the ratio
to the mean of those at the same moment, and it is what the figures draw. Capacities of different rows come
from different moments and may not be divided by each other. A point that did not use its quota has
no factor, and a factor whose 95 % interval spans more than a factor of ${FACTOR_SPREAD_MAX} is not given as a
number. Intervals say how much this run varied within itself: another run, or another machine, may
differ by more.</p>
${legend(SCALING_LEGEND)}
<div class="figures">${result.series.map((series) => scalingFigure(series)).join('')}</div>
${result.series.map((series) => scalingTable(series)).join('')}
</section>`;
}

function scalingFigure(series: ScalingSeries): string {
  return `<figure data-chart="scaling-${escape(series.workload)}">
<h3>${escape(series.workload)}</h3>
${scalingChart(series)}
<figcaption>${escape(series.claim)}</figcaption>
</figure>`;
}

function scalingTable(series: ScalingSeries): string {
  const rows = series.points.map((point) => {
    const busiest = point.perNode.toSorted((a, b) => b.utilization - a.utilization)[0];
    return row([
      modeName(point.mode),
      String(point.nodes),
      measuredCell(point.capacity),
      measuredCell(judgeFactor(point.speedup)),
      measuredCell(point.throughput),
      measuredCell(point.clusterCpuUs, 'us'),
      busiest === undefined
        ? '–'
        : `${busiest.id} (${busiest.role}) ${percent(busiest.utilization)}`,
    ]);
  });
  const head = [
    'mode',
    'nodes',
    'capacity /s',
    '× one node',
    'completed /s',
    'cluster CPU per request',
    'busiest node, of a core',
  ];
  return `<h3>${escape(series.workload)}</h3>${table(head, rows)}`;
}

function forwarding(result: Forwarding): string {
  const rows = result.paths.map(({ id, response, service, activeCpuUs, standbyCpuUs }) =>
    row([
      pathName(id),
      String(response.count),
      ...latencyCells(response),
      formatValue(service.p50, 'us'),
      measuredCell(activeCpuUs, 'us'),
      measuredCell(standbyCpuUs, 'us'),
    ]),
  );
  const differences = result.differences.map((difference) =>
    row([
      `${pathName(difference.subject)} − ${pathName(difference.reference)}`,
      String(difference.pairs),
      measuredCell(difference.responseP50Us, 'us'),
      measuredCell(difference.responseP99Us, 'us'),
      measuredCell(difference.activeCpuUs, 'us'),
      measuredCell(difference.standbyCpuUs, 'us'),
    ]),
  );
  return `<section id="forwarding">
<h2>Forwarding overhead: what does it cost?</h2>
<p>One open loop of ${result.offeredRate} requests per second on ${result.nodes} nodes, all paths in
random order within each block, values of ${result.valueBytes} bytes. Response time counts from the
intended start. A forwarded write is answered when the standby that forwarded it has applied it.</p>
<div class="figures">
<figure data-chart="spectrum"><h3>Latency spectrum</h3>${legend(PATH_LEGEND)}${spectrumChart(result)}
<figcaption>Solid: response time. Dashed: service time.</figcaption></figure>
<figure data-chart="forwarding-cpu"><h3>CPU per operation</h3>${legend(CPU_LEGEND)}${forwardingCpuChart(result)}
<figcaption>From interleaved slices of one path each; what a node does besides is in it.</figcaption></figure>
</div>
${table(['path', 'samples', 'p50', 'p90', 'p99', 'max', 'service p50', 'CPU active', 'CPU standby'], rows)}
${table(['paired difference', 'pairs', 'median difference', 'p99 of the differences', 'CPU active', 'CPU standby'], differences)}
</section>`;
}

function lag(result: Lag): string {
  const rows = result.curves.flatMap(({ commitNotify, points }) =>
    points.map((point) =>
      row([
        `${commitNotify}, ${point.method === 'probe' ? 'probed' : 'index awaited'}`,
        point.writesPerSecond === 0 ? 'idle' : String(point.writesPerSecond),
        String(point.upper.count),
        boundCell(point.upper.p50),
        boundCell(point.upper.p90),
        boundCell(point.upper.p99),
        `≤ ${formatUs(point.upper.maxUs)}`,
        point.perNode.map((node) => `${node.id} ${lagRange(node)}`).join(', '),
      ]),
    ),
  );
  return `<section id="lag">
<h2>Replication lag: how stale are reads?</h2>
<p>From the acknowledgement of a write to its visibility on each standby, on one clock. Probing gives
a range: visible no earlier than the start of the last stale read and no later than the end of the
first fresh one. One sample per write: the slowest standby. The columns show the upper end, a bound
that the true lag is below; the last column has the range of each standby, the median of the lower
ends and of the upper ends.</p>
${legend(LAG_LEGEND)}
<div class="figures">
<figure data-chart="lag"><h3>Lag over write rate</h3>${lagChart(result)}<figcaption>${escape(lagCaption(result))}</figcaption></figure>
<figure data-chart="lag-distribution"><h3>Isolated writes, each standby</h3>${lagDistributionChart(result)}
<figcaption>Solid: upper bounds. Dashed: lower bounds.</figcaption></figure>
</div>
${table(['commit index', 'other writes /s', 'samples', 'p50', 'p90', 'p99', 'max', 'p50 range of each'], rows)}
</section>`;
}

function environment(run: Run): string {
  const { environment: machine } = run;
  const items: readonly (readonly [string, string])[] = [
    [
      'machine',
      `${machine.cpuModel}, ${machine.cores} cores, ${formatNumber(machine.memoryBytes / 2 ** 30)} GiB`,
    ],
    ['system', `${machine.os}, Node ${machine.node}, V8 ${machine.v8}`],
    ['disk', `${machine.filesystem}, fdatasync p50 ${formatUs(machine.fsyncP50Us)}`],
    [
      'quiet before the run',
      `others used ${formatNumber(machine.tenantCores)} cores, timer lag p99 ${formatUs(machine.timerLagP99Us)}, load ${formatNumber(machine.loadAverage)}`,
    ],
    ['target', `${run.target.kind} ${run.target.version}`],
    ...Object.entries(run.target.settings),
  ];
  const list = items.map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`);
  return `<section id="environment"><h2>Environment</h2><dl>${list.join('')}</dl></section>`;
}

function reproduce(run: Run): string {
  return `<section id="reproduce"><h2>Reproduce</h2>
<p>Same seed, same plan. The figures belong to this machine; compare ratios, not absolute times.</p>
<pre>git checkout ${escape(run.suite.commit)}
npm ci
${escape(run.command)}</pre>
<p class="muted">Run ${escape(run.runId)}, seed ${run.seed}, took ${formatNumber(run.durationMs / 1000)} s.
Raw histograms and every figure of this page are in run.json beside it.</p>
</section>`;
}

/** Without an interval: that of the bound would look like one of the lag. */
function boundCell(measured: Measured): string {
  return 'refused' in measured ? `${REFUSED}${measured.refused}` : formatBound(measured);
}

function lagRange({ upper, lower }: LagNode): string {
  const low = lower === null ? undefined : valueOf(lower.p50);
  return low === undefined || 'refused' in upper.p50
    ? formatBound(upper.p50)
    : `${formatUs(low)} to ${formatValue(upper.p50, 'us')}`;
}

function latencyCells(latency: Latency): string[] {
  return [
    measuredCell(latency.p50, 'us'),
    measuredCell(latency.p90, 'us'),
    measuredCell(latency.p99, 'us'),
    formatUs(latency.maxUs),
  ];
}

/** Marked so that `row` can set a refusal apart. */
function measuredCell(measured: Measured, as: 'number' | 'us' = 'number'): string {
  if ('refused' in measured) return `${REFUSED}${measured.refused}`;
  return formatValue(measured, as) + formatInterval(measured, as);
}

const REFUSED = 'refused: ';

function row(cells: readonly string[]): string {
  const columns = cells.map((text) =>
    text.startsWith(REFUSED)
      ? `<td class="refused">${escape(text)}</td>`
      : `<td>${escape(text)}</td>`,
  );
  return `<tr>${columns.join('')}</tr>`;
}

function table(head: readonly string[], rows: readonly string[]): string {
  const columns = head.map((text) => `<th scope="col">${escape(text)}</th>`).join('');
  return `<div class="scroll"><table><thead><tr>${columns}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function legend(items: readonly LegendItem[]): string {
  const entries = items.map(
    ({ label, colour, dashed }) =>
      `<li><i${dashed ? ' class="dashed"' : ''} style="border-color:${colour}"></i>${escape(label)}</li>`,
  );
  return `<ul class="legend">${entries.join('')}</ul>`;
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
