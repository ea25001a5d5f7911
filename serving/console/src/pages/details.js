// A page for each stream and each view: definition, columns, how far it is, and what can be done with it.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { call, query, streams, views } from "../lib/api.js";
import { below, bytes, count, duration, isoOf, quoted } from "../lib/format.js";
import { writeExact } from "../lib/json.js";
import { Ago, Fact, Failure, Problem, Sql, Status, Time } from "../parts/common.js";
import { confirm } from "../parts/dialogs.js";
import { Grid } from "../parts/grid.js";
import { usePoll } from "../parts/hooks.js";

const EVERY = 2000;
const ROWS = 50;

const sqlLink = (sql) => `#/sql?q=${encodeURIComponent(sql)}`;

function Absent({ kind, name, list }) {
  if (list.error)
    return html`<main class="page">
      <h1>${name}</h1>
      <${Problem} error=${list.error} />
    </main>`;
  if (!list.data)
    return html`<main class="page">
      <h1>${name}</h1>
      <p class="empty">Loading …</p>
    </main>`;
  return html`<main class="page">
    <h1>${name}</h1>
    <p class="problem">There is no ${kind} of this name. <a href="#/pipeline">See what there is.</a></p>
  </main>`;
}

/** The first rows of a query, asked when the part is opened and on demand. */
function Rows({ title, sql, open = false, note = "" }) {
  const [opened, setOpened] = useState(open);
  const rows = usePoll(
    (signal) => (opened ? query(sql, { signal, most: ROWS, lenient: true }) : Promise.resolve(null)),
    0,
    [sql, opened],
  );
  const found = rows.data?.rows;
  return html`<details class="rows" open=${open} onToggle=${(event) => setOpened(event.currentTarget.open)}>
    <summary><h2>${title}</h2></summary>
    ${
      opened &&
      html`<div class="bar-of-tools">
        <span class="grow dim">${note}</span>
        <button onClick=${rows.again}>Ask again</button>
        <a class="button" href=${sqlLink(sql)}>Open in SQL</a>
      </div>`
    }
    ${rows.error && html`<${Problem} error=${rows.error} />`}
    ${found?.length > 0 && html`<${Grid} columns=${rows.data.columns} rows=${found} label=${title} height=${320} />`}
    ${found?.length === 0 && html`<p class="empty">There are none.</p>`}
    ${opened && !found && !rows.error && html`<p class="empty">Loading …</p>`}
  </details>`;
}

const Columns = ({ name }) => html`<${Rows} title="Columns" sql=${`DESCRIBE ${quoted(name)}`} />`;

/** A table of partitions: `columns` is `[[title, (partition) => value]]`. */
const Partitions = ({ partitions, columns }) =>
  html`<div class="scroll" tabindex="0" role="region" aria-label="Partitions">
    <table>
      <thead>
        <tr>
          <th scope="col">partition</th>
          ${columns.map(([title]) => html`<th scope="col">${title}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${partitions.map(
          (partition) =>
            html`<tr key=${partition}>
              <th scope="row">${partition}</th>
              ${columns.map(([, value]) => html`<td>${value(partition)}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;

const byNumber = (a, b) => Number(a) - Number(b);

export function StreamPage({ name }) {
  const list = usePoll(streams, EVERY, [name]);
  const stream = list.data?.streams.find((each) => each.name === name);
  if (!stream) return html`<${Absent} kind="stream" name=${name} list=${list} />`;
  const at = (partition) => stream.partitions?.[partition] ?? {};
  const partitions = [...new Set([...Object.keys(stream.origin ?? {}), ...Object.keys(stream.partitions ?? {})])].sort(
    byNumber,
  );
  const table = quoted(name);
  return html`<main class="page">
    <h1>${name} <${Status} status=${stream.status} /></h1>
    <p class="lead">Stream of topic <code>${stream.topic}</code></p>
    ${list.error && html`<${Problem} error=${list.error} />`}
    ${stream.failure && html`<p class="problem" role="alert">${stream.failure}</p>`}
    ${stream.archive_failure && html`<p class="problem" role="alert">${stream.archive_failure}</p>`}
    <dl class="facts">
      <${Fact} name="messages read" title="the sum of the frontier's offsets">${count(below(stream.frontier))}<//>
      <${Fact} name="lag">${count(stream.lag)}<//>
      <${Fact} name="newest event"><${Time} iso=${stream.latest_event} /><//>
      <${Fact} name="rows, rejects" title="since the process started"
        >${count(stream.rows)}, ${count(stream.rejects)}<//
      >
      <${Fact} name="archived" title=${`${stream.archive_files} files, version ${stream.archive_version}`}
        >${count(below(stream.archive_frontier))} in ${count(stream.archive_files)} files<//
      >
      <${Fact} name="memory" title=${stream.paused ? "reading pauses because of the budget" : ""}
        >${bytes(stream.memory_bytes)} of ${bytes(stream.memory_budget)}${stream.paused ? ", paused" : ""}<//
      >
    </dl>
    <section>
      <h2>Definition</h2>
      <${Sql} text=${stream.sql} />
    </section>
    <section>
      <h2>Partitions</h2>
      <${Partitions}
        partitions=${partitions}
        columns=${[
          ["frontier", (p) => count(at(p).frontier ?? stream.frontier?.[p])],
          ["end of log", (p) => count(at(p).high_watermark)],
          ["lag", (p) => count(at(p).lag)],
          ["archived", (p) => count(at(p).archive_frontier ?? stream.archive_frontier?.[p])],
          ["mark", (p) => count(stream.mark?.[p])],
          ["newest event", (p) => html`<${Time} iso=${at(p).latest_event} />`],
          ["rejects", (p) => count(at(p).rejects)],
          ["held by", (p) => stream.unheld?.[p] ?? at(p).worker ?? "this process"],
        ]}
      />
    </section>
    <${Columns} name=${name} />
    <${Rows}
      title="Rejects, newest first"
      note="messages that could not be decoded"
      sql=${`SELECT _timestamp, _partition, _offset, _reject, CAST(_payload AS STRING) AS payload\nFROM rejects.${table}\nORDER BY _timestamp DESC\nLIMIT ${ROWS}`}
    />
    <${Rows} title="Newest rows" sql=${`SELECT *\nFROM ${table}\nORDER BY _timestamp DESC\nLIMIT ${ROWS}`} />
  </main>`;
}

export function ViewPage({ name }) {
  const list = usePoll(views, EVERY, [name]);
  const view = list.data?.views.find((each) => each.name === name);
  if (!view) return html`<${Absent} kind="view" name=${name} list=${list} />`;
  const partitions = [...new Set([...Object.keys(view.cut ?? {}), ...Object.keys(view.frontier ?? {})])].sort(byNumber);
  const run = view.last_run;
  return html`<main class="page">
    <h1>${name} <${Status} status=${view.status} /></h1>
    <p class="lead">View of stream <a href=${`#/streams/${encodeURIComponent(view.stream)}`}>${view.stream}</a></p>
    ${list.error && html`<${Problem} error=${list.error} />`}
    ${view.failure && html`<${Failure} failure=${view.failure} />`}
    ${view.warnings.map((warning) => html`<p class="warning">${warning}</p>`)}
    <dl class="facts">
      <${Fact} name="batch version">${view.batch_version ?? "–"}<//>
      <${Fact} name="published"><${Time} iso=${view.published} /><//>
      <${Fact} name="states in files" title="a group that is in several files counts in each"
        >${count(view.batch_rows)} in ${count(view.batch_files)} files<//
      >
      <${Fact} name="realtime segments"
        >${count(view.segments)}${view.segment_bytes === null ? "" : `, ${bytes(view.segment_bytes)}`}<//
      >
      <${Fact} name="merged when asked" title="messages between the cut and the frontier"
        >${count(Math.max(below(view.frontier) - below(view.cut), 0))} messages<//
      >
      <${Fact} name="last run"
        >${run ? html`${run.mode}: ${run.outcome.replaceAll("_", " ")}, <${Ago} ms=${run.finished_ms} />` : "–"}<//
      >
    </dl>
    ${run?.error && html`<p class="warning">The last run published nothing: ${run.error}</p>`}
    <${Actions} name=${name} again=${list.again} />
    <section>
      <h2>Definition</h2>
      <${Sql} text=${view.sql} />
      <p class="dim">
        id <code>${view.id}</code>${view.building && html`; <code>${view.building}</code> is being built`}
      </p>
    </section>
    <${Rows} title="Groups" open note=${`the first ${ROWS}`} sql=${`SELECT *\nFROM ${quoted(name)}\nLIMIT ${ROWS}`} />
    <section>
      <h2>Partitions</h2>
      <${Partitions}
        partitions=${partitions}
        columns=${[
          ["cut", (p) => count(view.cut?.[p])],
          ["frontier", (p) => count(view.frontier?.[p])],
          ["between", (p) => count((view.frontier?.[p] ?? 0) - (view.cut?.[p] ?? 0))],
        ]}
      />
    </section>
    <${Columns} name=${name} />
  </main>`;
}

/** Audit and run: both may take as long as a recomputation, so both ask first. */
function Actions({ name, again }) {
  const [busy, setBusy] = useState(null);
  const [outcome, setOutcome] = useState(null);
  const start = async (title, text, path) => {
    if (!(await confirm(title, text, title))) return;
    setBusy(title);
    setOutcome(null);
    try {
      setOutcome({ data: await call("POST", path) });
    } catch (error) {
      setOutcome({ error });
    }
    setBusy(null);
    again();
  };
  const view = encodeURIComponent(name);
  return html`<section class="actions" aria-label="Actions">
    <div class="bar-of-tools">
      <button
        disabled=${busy}
        onClick=${() => start("Audit", `Both layers of ${name} are computed and compared, group by group. This can take as long as a recomputation.`, `/v1/audit?view=${view}`)}
      >
        Audit
      </button>
      <button
        disabled=${busy}
        onClick=${() => start("Run now", `The batch layer computes what was archived since the last cut of ${name}.`, `/v1/batch/run?view=${view}`)}
      >
        Run now
      </button>
      <button
        disabled=${busy}
        onClick=${() => start("Recompute", `The batch layer computes ${name} anew, from the origin of its stream.`, `/v1/batch/run?view=${view}&full=true`)}
      >
        Recompute all
      </button>
      <span class="grow dim" role="status">${busy ? `${busy} …` : ""}</span>
    </div>
    ${outcome?.error && html`<${Problem} error=${outcome.error} />`}
    ${outcome?.data?.audits?.map((audit) => html`<${Audit} audit=${audit} />`)}
    ${outcome?.data?.runs?.map(
      (run) =>
        html`<p class="note" role="status">
          ${run.mode} run:${" "}
          <b>${typeof run.outcome === "string" ? run.outcome.replaceAll("_", " ") : Object.keys(run.outcome)[0]}</b
          >,${" "} ${count(run.rows_read)} rows read, ${count(run.groups)} groups, ${count(run.files)} files,${" "}
          ${duration(run.elapsed_ms / 1000)} ${run.outcome.failed && html`<${Failure} failure=${run.outcome.failed} />`}
          ${run.outcome.busy && html` by ${run.outcome.busy.holder} until <${Time} iso=${isoOf(run.outcome.busy.until_ms)} />`}
        </p>`,
    )}
  </section>`;
}

const side = (value) => (value === null ? "–" : writeExact(value));

function Audit({ audit }) {
  const differ = audit.parts.reduce((sum, part) => sum + part.differences.length + part.more, 0);
  if (!audit.parts.length)
    return html`<p class="note" role="status">
      There was nothing to compare, which proves nothing: try again after the next run.
    </p>`;
  return html`<div class="note" role="status">
    <p><b>${differ ? `${count(differ)} differences` : "Both layers agree."}</b></p>
    <ul>
      ${audit.parts.map(
        (part) =>
          html`<li>
            ${part.provenance} segments against
            ${part.against === "archive" ? "the archive" : "the published states"}:${" "} ${count(part.segments)}
            segments, ${count(part.offsets)} offsets, ${count(part.groups)} groups,${" "}
            ${part.differences.length ? "differ" : "equal"}
          </li>`,
      )}
    </ul>
    ${audit.parts
      .flatMap((part) => part.differences)
      .slice(0, 50)
      .map(
        (d) =>
          html`<p class="problem">
            (${d.group.join(", ")}) ${d.aggregate ?? "group"}: speed ${side(d.left)}, other side ${side(d.right)}
          </p>`,
      )}
  </div>`;
}
