// One answer: its rows as a table and as a chart, where it is exact, how long it took, and ways to take it along.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { choose, kindOf } from "../lib/charts.js";
import { count, duration } from "../lib/format.js";
import { csv, tsv } from "../lib/tables.js";
import { MOST_ROWS } from "../lib/api.js";
import { Chart } from "./chart.js";
import { copyText } from "./copy.js";
import { Grid } from "./grid.js";

/** Gives the browser a file to save. */
function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function Result({ answer }) {
  const { columns, rows } = answer;
  const [tab, setTab] = useState("table");
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(tsv(columns, rows));
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  const tabButton = (name, text) =>
    html`<button
      role="tab"
      aria-selected=${tab === name}
      class=${tab === name ? "tab on" : "tab"}
      onClick=${() => setTab(name)}
    >
      ${text}
    </button>`;
  return html`<section class="result" aria-label="Answer">
    <div class="bar-of-tools">
      <div role="tablist" aria-label="How to show the rows">
        ${tabButton("table", "Table")}${tabButton("chart", "Chart")}
      </div>
      <span class="grow" role="status"
        >${count(rows.length)} ${rows.length === 1 ? "row" : "rows"} · ${duration(answer.seconds)}</span
      >
      <button onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
      <button onClick=${() => save("answer.csv", "text/csv", csv(columns, rows))}>CSV</button>
    </div>
    ${answer.more && html`<p class="warning">These are the first ${count(MOST_ROWS)} rows; there are more. Add a LIMIT, or take all by <code>thalweg sql</code>.</p>`}
    ${answer.stale && html`<p class="warning">This answer may lie below earlier ones: a stream has not caught up.</p>`}
    ${answer.partial && html`<p class="warning">Partitions that no worker holds are as the batch layer left them: ${JSON.stringify(answer.partial)}</p>`}
    ${tab === "table" ? html`<${Grid} columns=${columns} rows=${rows} />` : html`<${Charted} answer=${answer} />`}
    <${Frontiers} frontier=${answer.frontier} />
  </section>`;
}

/** Where the answer is exact: every event below these offsets is in it, and no other. */
function Frontiers({ frontier }) {
  const streams = Object.entries(frontier ?? {});
  if (!streams.length) return null;
  return html`<p class="frontier">
    Exact at${" "}
    ${streams.map(
      ([stream, parts]) =>
        html`<span
          ><b>${stream}</b>${" "}
          ${Object.entries(parts).map(([partition, offset]) => html`<code title=${`partition ${partition}: everything below offset ${offset}`}>${partition}:${count(offset)}</code> `)}</span
        >`,
    )}
  </p>`;
}

function Charted({ answer }) {
  const { columns, rows } = answer;
  const [choice, setChoice] = useState(() => choose(columns, rows));
  useEffect(() => setChoice(choose(columns, rows)), [JSON.stringify(columns)]);
  return html`<${Axes} ...${{ columns, choice, setChoice }} /><${Chart}
      columns=${columns}
      rows=${rows}
      choice=${choice}
      height=${340}
      label="Answer"
    />`;
}

/** Fields to change what is drawn; columns by index. */
export function Axes({ columns, choice, setChoice }) {
  const change = (part) => setChoice({ ...choice, ...part });
  const pick = (label, value, allowed, onPick) =>
    html`<label
      >${label}
      <select
        value=${value ?? ""}
        onChange=${(event) => onPick(event.target.value === "" ? null : Number(event.target.value))}
      >
        ${allowed.map((i) => html`<option value=${i ?? ""} selected=${i === value}>${i === null ? "–" : columns[i].name}</option>`)}
      </select></label
    >`;
  const all = columns.map((_, i) => i);
  const numbers = all.filter((i) => kindOf(columns[i].type) === "number");
  const positions = all.filter((i) => ["time", "number"].includes(kindOf(columns[i].type)));
  const toggle = (i) => change({ y: choice.y.includes(i) ? choice.y.filter((each) => each !== i) : [...choice.y, i] });
  // The other kind of axis has another set of columns: the first of them is taken.
  const setKind = (kind) => {
    const allowed = kind === "time" ? positions : all;
    const x = allowed.includes(choice.x) ? choice.x : (allowed[0] ?? null);
    change({ kind, x, by: kind === "time" ? choice.by : null, y: choice.y.length ? choice.y : numbers.slice(0, 1) });
  };
  return html`<div class="axes">
    <label
      >Draw<select value=${choice.kind} onChange=${(event) => setKind(event.target.value)}>
        ${[
          ["time", "lines"],
          ["bars", "bars"],
          ["number", "one number"],
        ].map(([kind, text]) => html`<option value=${kind} selected=${choice.kind === kind}>${text}</option>`)}
        ${choice.kind === "none" && html`<option value="none" selected>nothing</option>`}
      </select></label
    >
    ${["time", "bars"].includes(choice.kind) && pick("along", choice.x, choice.kind === "time" ? positions : all, (x) => change({ x }))}
    ${
      choice.kind === "time"
        ? html`<fieldset>
            <legend>of</legend>
            ${numbers.filter((i) => i !== choice.x).map((i) => html`<label class="check"><input type="checkbox" checked=${choice.y.includes(i)} onChange=${() => toggle(i)} />${columns[i].name}</label>`)}
          </fieldset>`
        : pick("of", choice.y[0] ?? null, numbers, (i) => change({ y: i === null ? [] : [i] }))
    }
    ${choice.kind === "time" && pick("a line each", choice.by, [null, ...all.filter((i) => kindOf(columns[i].type) === "text")], (by) => change({ by }))}
  </div>`;
}
