// Small parts that several pages use.
import { useMemo } from "preact/hooks";
import { PostgreSQL } from "@codemirror/lang-sql";
import { classHighlighter, highlightCode } from "@lezer/highlight";
import { html } from "../html.js";
import { bothTimes, duration, isoOf, timeText } from "../lib/format.js";
import { zone } from "./hooks.js";

/** A definition with its words in colours. */
export function Sql({ text }) {
  const parts = useMemo(() => {
    const found = [];
    const put = (code, classes) => found.push(classes ? html`<span class=${classes}>${code}</span>` : code);
    highlightCode(text, PostgreSQL.language.parser.parse(text), classHighlighter, put, () => found.push("\n"));
    return found;
  }, [text]);
  return html`<pre class="sql" tabindex="0" aria-label="Definition">${parts}</pre>`;
}

const TONES = {
  running: "good",
  serving: "good",
  catching_up: "busy",
  starting: "busy",
  building: "busy",
  waiting_for_kafka: "warn",
  waiting_for_schema: "warn",
  not_held: "warn",
  stopped: "bad",
  failed: "bad",
};

export const toneOf = (status) => TONES[status] ?? "warn";

export const Status = ({ status }) =>
  html`<span class=${`status ${toneOf(status)}`}>${status.replaceAll("_", " ")}</span>`;

/** A time of the server, in the chosen zone, with the other one in the tooltip. */
export function Time({ iso }) {
  const where = zone.use();
  if (!iso) return "–";
  return html`<time datetime=${iso} title=${bothTimes(iso)}
    >${timeText(iso, where).replace(/(\.\d{3})\d+$/, "$1")}</time
  >`;
}

/** How long ago a time of the server is. */
export const Ago = ({ ms }) =>
  ms === null || ms === undefined
    ? "–"
    : html`<time datetime=${isoOf(ms)} title=${bothTimes(isoOf(ms))}>${duration((Date.now() - ms) / 1000)} ago</time>`;

/** A figure with its name. */
export const Fact = ({ name, children, title }) =>
  html`<div class="fact" title=${title}>
    <dt>${name}</dt>
    <dd>${children}</dd>
  </div>`;

export const Problem = ({ error }) =>
  html`<p class="problem" role="alert"><b>${error.code ?? "error"}</b> ${error.message}</p>`;

/** A failure of a view, as `/v1/views` tells it. */
export function Failure({ failure }) {
  const messages = Object.entries(failure.from ?? {}).map(
    ([partition, from]) => `partition ${partition}, offsets ${from} to ${(failure.to?.[partition] ?? from + 1) - 1}`,
  );
  return html`<div class="problem" role="alert">
    <b>${failure.step}</b> ${failure.reason}
    ${failure.expression && html`<div>in <code>${failure.expression}</code></div>`}
    ${messages.length > 0 && html`<div>Messages: ${messages.join("; ")}</div>`}
    <div class="dim">
      ${failure.fault === "transient" ? "It is tried again. " : ""}Since <${Ago} ms=${failure.since_ms} />
    </div>
  </div>`;
}
