// The pipeline as a picture that moves: topics, both layers, views, and how far each of them is.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { streams, views } from "../lib/api.js";
import { below, bytes, count, cut, duration, rate } from "../lib/format.js";
import { layout, rates } from "../lib/layout.js";
import { Failure, Problem, Status, toneOf } from "../parts/common.js";
import { usePoll, useWidth } from "../parts/hooks.js";

const EVERY = 1000;

async function load(signal) {
  const [s, v] = await Promise.all([streams(signal), views(signal)]);
  return {
    streams: s.streams,
    views: v.views,
    notUnderstood: [...(s.not_understood ?? []), ...(v.not_understood ?? [])],
  };
}

/** Seconds since the newest event; null if there is none. */
const age = (stream) => (stream.latest_event ? (Date.now() - Date.parse(stream.latest_event)) / 1000 : null);

export function Pipeline() {
  const { data, error, at } = usePoll(load, EVERY);
  const [box, width] = useWidth();
  const before = useRef(null);
  const [perSecond, setPerSecond] = useState({});
  useEffect(() => {
    if (!data) return;
    const now = { at, sums: Object.fromEntries(data.streams.map((stream) => [stream.name, below(stream.frontier)])) };
    setPerSecond((old) => ({ ...old, ...rates(now, before.current) }));
    before.current = now;
  }, [at]);
  const failed = data?.views.filter((view) => view.failure) ?? [];
  return html`<main class="page" aria-label="Pipeline">
    <h1>Pipeline</h1>
    <p class="lead">Each answer is the batch layer’s states merged with the speed layer’s, exact at one frontier.</p>
    ${error && html`<${Problem} error=${error} />`}
    <div ref=${box} class="picture">${data && width > 0 && html`<${Picture} ...${{ data, width, perSecond }} />`}</div>
    ${data?.streams.length === 0 && html`<p class="empty">There are no streams yet. <a href="#/sql">Define one in SQL.</a></p>`}
    ${
      failed.length > 0 &&
      html`<section>
        <h2>Failures</h2>
        ${failed.map(
          (view) =>
            html`<h3>
                <a href=${`#/views/${encodeURIComponent(view.name)}`}>${view.name}</a>
                <${Status} status=${view.status} />
              </h3>
              <${Failure} failure=${view.failure} />`,
        )}
      </section>`
    }
    ${data?.streams.filter((s) => s.failure || s.archive_failure).map((s) => html`<p class="problem"><b>${s.name}</b> ${s.failure ?? s.archive_failure}</p>`)}
    ${data?.notUnderstood.map(({ name, reason }) => html`<p class="problem"><b>${name}</b> needs a newer version: ${reason}</p>`)}
  </main>`;
}

function Picture({ data, width, perSecond }) {
  const placed = layout(data.streams, data.views, width);
  return html`<svg
    width=${placed.width}
    height=${placed.height}
    viewBox=${`0 0 ${placed.width} ${placed.height}`}
    role="group"
    aria-label="Topics, layers and views"
  >
    ${placed.blocks.map((block) => html`<${Block} key=${block.stream.name} block=${block} perSecond=${perSecond[block.stream.name]} />`)}
  </svg>`;
}

/** What the boxes of a stream say. */
function said(stream, perSecond) {
  const partitions = Object.keys(stream.origin ?? stream.partitions ?? {}).length;
  const archived = below(stream.archive_frontier);
  const memory = stream.memory_bytes === undefined ? "" : ` · ${bytes(stream.memory_bytes)}`;
  const fresh = age(stream);
  return {
    topic: [
      `${rate(perSecond)} in ${partitions} partitions`,
      `lag ${count(stream.lag ?? 0)}${stream.paused ? " · paused" : ""}`,
    ],
    archive: [
      `${count(archived)} messages, ${count(stream.archive_files ?? 0)} files`,
      `${count(Math.max(below(stream.frontier) - archived, 0))} still in memory`,
    ],
    speed: [
      `frontier ${count(below(stream.frontier))}${memory}`,
      fresh === null ? "no event yet" : `newest event ${duration(fresh)} old`,
    ],
  };
}

function Block({ block, perSecond }) {
  const { stream } = block;
  const failed = new Set(block.views.filter(({ view }) => view.status === "failed").map(({ view }) => view.name));
  const state = ({ kind, view }) => {
    if (failed.has(view)) return "broken";
    return perSecond > 0 && kind !== "batch" ? "moves" : "";
  };
  const link = `#/streams/${encodeURIComponent(stream.name)}`;
  const lines = said(stream, perSecond);
  const tone = toneOf(stream.status);
  const archiveTone = stream.archive_failure ? "bad" : "good";
  return html`<g>
    ${block.arrows.map((arrow) => html`<path d=${arrow.path} class=${`arrow ${arrow.kind} ${state(arrow)}`} />`)}
    <${Node} kind="topic" title=${stream.topic} lines=${lines.topic} ...${{ box: block.topic, link, tone }} />
    <${Node}
      kind="archive"
      title="archive"
      lines=${lines.archive}
      ...${{ box: block.archive, link, tone: archiveTone }}
    />
    <${Node} kind="speed" title="speed" lines=${lines.speed} ...${{ box: block.speed, link, tone }} />
    ${block.views.map(({ view, box }) => html`<${ViewNode} key=${view.name} ...${{ view, box }} />`)}
  </g>`;
}

/** How the newest run of a view ended, or when its batch version was published. */
function newest({ last_run: run, age_seconds: seconds }) {
  if (run)
    return `${run.mode} run ${duration((Date.now() - run.finished_ms) / 1000)} ago: ${run.outcome.replaceAll("_", " ")}`;
  return seconds === null ? "no batch version yet" : `published ${duration(seconds)} ago`;
}

function ViewNode({ view, box }) {
  const ahead = Math.max(below(view.frontier) - below(view.cut), 0);
  const first = view.failure
    ? `${view.failure.step}: ${view.failure.reason}`
    : `batch v${view.batch_version ?? "–"} + ${count(ahead)} newer messages`;
  const tone = view.failure && view.status === "serving" ? "warn" : toneOf(view.status);
  const link = `#/views/${encodeURIComponent(view.name)}`;
  return html`<${Node} kind="view" title=${view.name} lines=${[first, newest(view)]} ...${{ box, link, tone }} />`;
}

/** A box with a title and lines of text, which are cut to its width; the tooltip, which also names the link, has them whole. */
function Node({ box: { x, y, w, h }, link, kind, title, tone, lines }) {
  const whole = [`${kind} ${title}`, ...lines].join("\n");
  return html`<a href=${link} class=${`node ${kind} ${tone}`}>
    <title>${whole}</title>
    <rect x=${x} y=${y} width=${w} height=${h} rx="8" />
    <circle cx=${x + 14} cy=${y + 17} r="4.5" />
    <text x=${x + 26} y=${y + 22} class="node-title">${cut(title, (w - 34) / 8.2)}</text>
    ${lines.map(
      (line, i) => html`<text x=${x + 12} y=${y + 41 + i * 17} class="node-line">${cut(line, (w - 20) / 6.3)}</text>`,
    )}
  </a>`;
}
