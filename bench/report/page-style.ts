/** The report's style sheet: light and dark by the reader's setting, A4 when printed. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --surface: #ffffff; --raised: #f5f6f8; --line: #d9dde3; --text: #1b2026; --muted: #68717d;
  --series-1: #1f6fd6; --series-2: #d9620b; --series-3: #0f9d80; --series-4: #a544c9;
  --good: #157f3c; --warn: #9a6200; --bad: #c0262d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --surface: #14171b; --raised: #1d2127; --line: #343a43; --text: #e6e9ed; --muted: #98a1ad;
    --series-1: #6aa9ff; --series-2: #ff9d57; --series-3: #4fd1b2; --series-4: #d896f0;
    --good: #5dd28a; --warn: #f0b95b; --bad: #ff8388;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 32px 24px 64px; max-width: 1200px; background: var(--surface);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', sans-serif;
}
h1 { font-size: 15px; font-weight: 600; color: var(--muted); margin: 0 0 12px; }
h2 { font-size: 20px; margin: 44px 0 4px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
p { margin: 4px 0 12px; max-width: 75ch; }
.muted, figcaption, .legend { color: var(--muted); }
.verdict { border-left: 5px solid var(--good); background: var(--raised); padding: 16px 20px; }
.verdict.partly-refused { border-color: var(--warn); }
.verdict.invalid { border-color: var(--bad); }
.verdict p { font-size: 19px; line-height: 1.45; margin: 4px 0 0; max-width: none; }
.badge { font-weight: 700; font-size: 12px; letter-spacing: 0.06em; color: var(--good); }
.partly-refused .badge { color: var(--warn); }
.invalid .badge { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 12px; margin: 16px 0; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; }
.card strong { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card small { color: var(--muted); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 16px 32px; }
figure { margin: 8px 0; min-width: 0; max-width: 640px; }
figure svg { width: 100%; height: auto; overflow: visible; }
figcaption { font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; padding: 0; margin: 8px 0; list-style: none; }
.legend i { display: inline-block; width: 18px; border-top: 3px solid; vertical-align: middle; margin-right: 6px; }
.legend i.dashed { border-top-style: dashed; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; margin: 8px 0 16px; }
th, td { text-align: right; padding: 4px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; color: var(--muted); }
td.refused { color: var(--warn); white-space: normal; text-align: left; font-size: 12px; line-height: 1.3; min-width: 15ch; }
#lag td:last-child { white-space: normal; min-width: 18ch; }
.gates { display: flex; flex-wrap: wrap; gap: 4px; padding: 0; margin: 8px 0; list-style: none; }
.gates li { width: 14px; height: 14px; border-radius: 3px; background: var(--good); }
.gates li.fail { background: var(--bad); }
pre { background: var(--raised); padding: 12px 16px; overflow-x: auto; font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 20px; margin: 8px 0; font-size: 14px; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { padding: 0; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
`;
