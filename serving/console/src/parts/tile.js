// One tile of a dashboard: it asks its query every few seconds while it is seen, and shows the newest answer.
import { useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { query } from "../lib/api.js";
import { chooseBy } from "../lib/charts.js";
import { KINDS } from "../lib/dashboards.js";
import { duration } from "../lib/format.js";
import { errorRange } from "../lib/statements.js";
import { Problem } from "./common.js";
import { Chart } from "./chart.js";
import { Editor } from "./editor.js";
import { Grid } from "./grid.js";
import { usePoll } from "./hooks.js";
import { Axes } from "./result.js";

const HEIGHT = 260;
const MOST_ROWS = 2000;

function Picture({ tile, answer }) {
  const { columns, rows } = answer;
  if (tile.kind === "table")
    return html`<${Grid} columns=${columns} rows=${rows} label=${tile.title} height=${HEIGHT} />`;
  return html`<${Chart}
    columns=${columns}
    rows=${rows}
    choice=${chooseBy(columns, rows, tile)}
    height=${HEIGHT}
    label=${tile.title}
  />`;
}

export function Tile({ tile, every, tools }) {
  const { data, error, at } = usePoll((signal) => query(tile.sql, { signal, most: MOST_ROWS, lenient: true }), every, [
    tile.sql,
  ]);
  return html`<section class=${tile.wide ? "tile wide" : "tile"} aria-label=${tile.title || "Tile"}>
    <header>
      <h2>${tile.title || "Untitled"}</h2>
      ${
        tools
          ? html`<button class="plain" aria-label="Move back" onClick=${tools.left}>◀</button
              ><button class="plain" aria-label="Move on" onClick=${tools.right}>▶</button>
              <button class="plain" onClick=${tools.edit}>Edit</button
              ><button class="plain" aria-label="Remove" onClick=${tools.remove}>✕</button>`
          : html`<small class="dim">${data ? duration(data.seconds) : ""}</small
              ><a class="dim" href=${`#/sql?q=${encodeURIComponent(tile.sql)}`}>SQL</a>`
      }
    </header>
    <div class="tile-body" data-at=${at ?? ""}>
      ${error && html`<${Problem} error=${error} />`} ${data && html`<${Picture} tile=${tile} answer=${data} />`}
      ${!data && !error && html`<p class="empty">Loading …</p>`}
    </div>
  </section>`;
}

/** The form of a tile; closes with the tile. */
export function TileForm({ tile, close }) {
  const [draft, setDraft] = useState(tile);
  const [tried, setTried] = useState(null);
  const editor = useRef(null);
  const set = (part) => setDraft((old) => ({ ...old, ...part }));
  const attempt = async () => {
    editor.current.mark(null);
    const sql = editor.current.text();
    try {
      setTried({ answer: await query(sql, { most: MOST_ROWS, lenient: true }) });
    } catch (error) {
      if (error.line) editor.current.mark(errorRange(sql, 0, error.line, error.column ?? 1));
      setTried({ error });
    }
  };
  const columns = tried?.answer?.columns ?? [];
  const choice = tried?.answer && draft.kind !== "table" && chooseBy(columns, tried.answer.rows, draft);
  const setChoice = (chosen) =>
    set({
      kind: chosen.kind === "none" ? draft.kind : chosen.kind,
      x: columns[chosen.x]?.name ?? null,
      y: chosen.y.map((i) => columns[i].name),
      by: columns[chosen.by]?.name ?? null,
    });
  return html`<div class="tile-form">
    <label class="field"
      >Title<input
        value=${draft.title}
        maxlength="200"
        autofocus
        onInput=${(event) => set({ title: event.target.value })}
    /></label>
    <div class="editor-frame small">
      <${Editor}
        text=${draft.sql}
        names=${null}
        label="SQL of the tile"
        onRun=${attempt}
        onChange=${(sql) => set({ sql })}
        onReady=${(control) => (editor.current = control)}
      />
    </div>
    <div class="bar-of-tools">
      <button onClick=${attempt}>Try</button>
      <label
        >Shows<select value=${draft.kind} onChange=${(event) => set({ kind: event.target.value })}>
          ${KINDS.map(([kind, text]) => html`<option value=${kind} selected=${kind === draft.kind}>${text}</option>`)}
        </select></label
      >
      <label class="check"
        ><input
          type="checkbox"
          checked=${draft.wide}
          onChange=${(event) => set({ wide: event.target.checked })}
        />wide</label
      >
    </div>
    ${tried?.error && html`<${Problem} error=${tried.error} />`}
    ${choice && html`<${Axes} columns=${columns} choice=${choice} setChoice=${setChoice} />`}
    ${tried?.answer && html`<${Picture} tile=${draft} answer=${tried.answer} />`}
    <footer>
      <button onClick=${() => close()}>Cancel</button
      ><button class="primary" disabled=${!draft.sql.trim()} onClick=${() => close(draft)}>Take it</button>
    </footer>
  </div>`;
}
