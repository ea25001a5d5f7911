// The SQL page: an editor, the names there are, the answer, and what was asked before.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { Refusal, query, streams, views } from "../lib/api.js";
import { count, cut, duration, isoOf, quoted } from "../lib/format.js";
import { loadFunctions, loadTables } from "../lib/names.js";
import { errorRange, removes, statementAt } from "../lib/statements.js";
import { forget, history, keepSetting, remember, setting } from "../lib/storage.js";
import { Problem, Time } from "../parts/common.js";
import { copyText } from "../parts/copy.js";
import { confirm, show } from "../parts/dialogs.js";
import { Editor } from "../parts/editor.js";
import { useKeys, usePoll } from "../parts/hooks.js";
import { Result } from "../parts/result.js";

const EXAMPLES = {
  site_alarms:
    "-- Where is it getting hot? Ctrl-Enter runs this; the answer is exact at the frontier below it.\nSELECT site, hour, readings, alarms, hottest, hottest_device\nFROM site_alarms\nORDER BY hour DESC, alarms DESC",
};
const NO_VIEWS = "SHOW TABLES";

// What the page shows outlives a visit to another page.
let kept = { answer: null, failure: null };

export function SqlPage({ shared, setShared }) {
  const editor = useRef(null);
  const running = useRef(null);
  const [state, setState] = useState({ ...kept, running: null });
  const [names, setNames] = useState(null);
  const [start, setStart] = useState(() => shared ?? setting("text", null));
  const [linked, setLinked] = useState(false);
  const list = usePoll(async (signal) => {
    const [s, v] = await Promise.all([streams(signal), views(signal)]);
    const kinds = Object.fromEntries([
      ...s.streams.map(({ name }) => [name, "stream"]),
      ...v.views.map(({ name }) => [name, "view"]),
    ]);
    return { key: JSON.stringify(kinds), kinds };
  }, 10_000);
  useEffect(() => {
    if (!list.data) return undefined;
    const { kinds } = list.data;
    if (start === null) setStart(Object.entries(EXAMPLES).find(([view]) => kinds[view])?.[1] ?? NO_VIEWS);
    const ending = new AbortController();
    const load = async () => {
      const tables = await loadTables(kinds, ending.signal);
      if (ending.signal.aborted) return;
      setNames((old) => ({ functions: old?.functions ?? [], tables }));
      const functions = await loadFunctions(ending.signal);
      if (!ending.signal.aborted) setNames({ tables, functions });
    };
    load();
    return () => ending.abort();
  }, [list.data?.key]);
  useEffect(() => {
    if (shared !== null && editor.current && shared !== editor.current.text()) editor.current.replace(shared);
  }, [shared]);
  useEffect(() => () => running.current?.abort(), []);

  const settle = (next) => {
    kept = next;
    setState({ ...next, running: null });
  };
  const cancel = () => running.current?.abort();
  const run = async () => {
    if (running.current) return;
    const text = editor.current.text();
    const { from, to, head } = editor.current.selection();
    const statement = from === to ? statementAt(text, head) : { from, to, text: text.slice(from, to) };
    if (!statement?.text.trim()) return;
    if (removes(statement.text) && !(await confirm("Drop it?", cut(statement.text, 200), "Drop", { danger: true })))
      return;
    editor.current.mark(null);
    const ending = new AbortController();
    running.current = ending;
    setState((old) => ({ ...old, failure: null, running: Date.now() }));
    setShared(text);
    keepSetting("text", text);
    const at = Date.now();
    try {
      const answer = await query(statement.text, { signal: ending.signal });
      remember({ sql: statement.text, at, seconds: answer.seconds, rows: answer.rows.length });
      settle({ answer, failure: null });
      if (/^\s*(?:create|drop)\b/i.test(statement.text)) list.again();
    } catch (error) {
      if (error.name === "AbortError") {
        settle({
          answer: kept.answer,
          failure: new Refusal(0, { code: "cancelled", message: "the query was cancelled" }),
        });
      } else {
        const place = error.line ? errorRange(statement.text, statement.from, error.line, error.column ?? 1) : null;
        if (place && editor.current?.text() === text) editor.current.mark(place);
        remember({ sql: statement.text, at, error: error.code });
        settle({
          answer: null,
          failure: Object.assign(error, { place, lines: text.slice(0, place?.from ?? 0).split("\n") }),
        });
      }
    } finally {
      running.current = null;
    }
  };
  const openHistory = async () => {
    const chosen = await show("History", (close) => html`<${History} close=${close} />`);
    if (chosen) editor.current.replace(chosen);
    editor.current?.focus();
  };
  const link = async () => {
    setShared(editor.current.text());
    await copyText(location.href);
    setLinked(true);
    setTimeout(() => setLinked(false), 1500);
  };
  useKeys({ e: () => editor.current?.focus(), h: openHistory, Escape: cancel });
  const { answer, failure } = state;
  return html`<main class="page sql-page" aria-label="SQL">
    <h1 class="out-of-sight">SQL</h1>
    <${Names} names=${names} error=${list.error} insert=${(name) => editor.current?.insert(name)} />
    <div class="workbench">
      <div class="editor-frame">
        ${
          start !== null &&
          html`<${Editor}
            text=${start}
            names=${names}
            label="SQL"
            onRun=${run}
            onReady=${(control) => (editor.current = control)}
            onLeave=${() => document.activeElement?.blur?.()}
          />`
        }
      </div>
      <div class="bar-of-tools">
        ${
          state.running
            ? html`<button class="danger" onClick=${cancel}>Cancel</button>`
            : html`<button class="primary" onClick=${run} title="Ctrl Enter">Run</button>`
        }
        <span class="grow dim" role="status"
          >${state.running ? html`<${Clock} since=${state.running} />` : "the selection, or the statement at the cursor"}</span
        >
        <button onClick=${openHistory}>History</button>
        <button onClick=${link}>${linked ? "Copied" : "Link"}</button>
      </div>
      ${failure && html`<${Complaint} failure=${failure} goTo=${(position) => editor.current.goTo(position)} />`}
      ${answer && html`<${Result} answer=${answer} />`}
    </div>
  </main>`;
}

function Clock({ since }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 100);
    return () => clearInterval(timer);
  }, []);
  return `running for ${duration((Date.now() - since) / 1000)}`;
}

/** An error with its place; the place is a button that moves the cursor there. */
function Complaint({ failure, goTo }) {
  const { place, lines } = failure;
  const where = place && `line ${lines.length}, column ${[...lines.at(-1)].length + 1}`;
  return html`<div class="problem complaint-box">
    <${Problem} error=${failure} />
    ${place && html`<button class="plain link" onClick=${() => goTo(place.from)}>${where}</button>`}
  </div>`;
}

/** Streams and views with their columns; a click puts a name into the editor. */
function Names({ names, error, insert }) {
  const shown = names?.tables.filter((table) => table.schema === "public") ?? [];
  return html`<aside class="names" aria-label="Streams and views">
    <details open=${matchMedia("(min-width: 900px)").matches}>
      <summary>Streams and views</summary>
      ${error && !names && html`<${Problem} error=${error} />`}
      ${["stream", "view", "table"].map((kind) => {
        const tables = shown.filter((table) => table.kind === kind);
        return (
          tables.length > 0 &&
          html`<h2>${kind}s</h2>
            ${tables.map(
              (table) =>
                html`<details key=${table.name}>
                  <summary><span class="name">${table.name}</span></summary>
                  <div class="name-tools">
                    <button class="plain link" onClick=${() => insert(quoted(table.name))}>insert</button>
                    ${kind !== "table" && html`<a href=${`#/${kind}s/${encodeURIComponent(table.name)}`}>open</a>`}
                  </div>
                  <ul>
                    ${table.columns.map((column) => html`<li><button class="plain" title=${`insert ${column.name}`} onClick=${() => insert(quoted(column.name))}>${column.name}</button><small>${column.type}</small></li>`)}
                  </ul>
                </details>`,
            )}`
        );
      })}
    </details>
  </aside>`;
}

function History({ close }) {
  const [word, setWord] = useState("");
  const [entries, setEntries] = useState(history);
  const found = entries.filter((entry) => entry.sql.toLowerCase().includes(word.toLowerCase()));
  const clear = () => {
    forget();
    setEntries([]);
  };
  return html`<label class="field"
      >Find<input value=${word} autofocus onInput=${(event) => setWord(event.target.value)}
    /></label>
    <ul class="history">
      ${found.map(
        (entry) =>
          html`<li key=${entry.sql}>
            <button class="plain" onClick=${() => close(entry.sql)}>
              <code>${cut(entry.sql, 300)}</code>
              <small
                ><${Time} iso=${isoOf(entry.at)} /> ·${" "}
                ${entry.error ?? `${count(entry.rows)} rows · ${duration(entry.seconds)}`}</small
              >
            </button>
          </li>`,
      )}
    </ul>
    ${found.length === 0 && html`<p class="empty">Nothing.</p>`}
    <footer><button onClick=${clear} disabled=${!entries.length}>Forget all</button></footer>`;
}
