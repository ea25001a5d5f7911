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
    ${placed.blocks.map((block) => html`<${Block} key=${block.stream.name} ...${{ block, speed: perSecond[block.stream.name] }} />`)}
  </svg>`;
}

function Block({ block, speed }) {
  const { stream } = block;
  const moves = (speed ?? 0) > 0;
  const failed = new Set(block.views.filter(({ view }) => view.status === "failed").map(({ view }) => view.name));
  const waiting = below(stream.frontier) - below(stream.archive_frontier);
  const link = `#/streams/${encodeURIComponent(stream.name)}`;
  const fresh = age(stream);
  return html`<g>
    ${block.arrows.map(({ kind, view, path }) => html`<path d=${path} class=${`arrow ${kind} ${failed.has(view) ? "broken" : moves && kind !== "batch" ? "moves" : ""}`} />`)}
    <${Node}
      ...${{ box: block.topic, link, kind: "topic", title: stream.topic, tone: toneOf(stream.status), lines: [`${rate(speed)} in ${Object.keys(stream.partitions ?? {}).length || Object.keys(stream.origin ?? {}).length} partitions`, `lag ${count(stream.lag ?? 0)}${stream.paused ? " · paused" : ""}`] }}
    />
    <${Node}
      ...${{ box: block.archive, link, kind: "archive", title: "archive", tone: stream.archive_failure ? "bad" : "good", lines: [`${count(below(stream.archive_frontier))} messages, ${count(stream.archive_files ?? 0)} files`, `${count(Math.max(waiting, 0))} still in memory`] }}
    />
    <${Node}
      ...${{ box: block.speed, link, kind: "speed", title: "speed", tone: toneOf(stream.status), lines: [`frontier ${count(below(stream.frontier))}${stream.memory_bytes === undefined ? "" : ` · ${bytes(stream.memory_bytes)}`}`, fresh === null ? "no event yet" : `newest event ${duration(fresh)} old`] }}
    />
    ${block.views.map(({ view, box }) => html`<${ViewNode} key=${view.name} ...${{ view, box }} />`)}
  </g>`;
}

function ViewNode({ view, box }) {
  const ahead = below(view.frontier) - below(view.cut);
  const run = view.last_run;
  const age = run
    ? `${run.mode} run ${duration((Date.now() - run.finished_ms) / 1000)} ago: ${run.outcome.replaceAll("_", " ")}`
    : view.age_seconds === null
      ? "no batch version yet"
      : `published ${duration(view.age_seconds)} ago`;
  const lines = view.failure
    ? [`${view.failure.step}: ${view.failure.reason}`, age]
    : [`batch v${view.batch_version ?? "–"} + ${count(Math.max(ahead, 0))} newer messages`, age];
  return html`<${Node}
    ...${{ box, link: `#/views/${encodeURIComponent(view.name)}`, kind: "view", title: view.name, tone: toneOf(view.failure && view.status === "serving" ? "waiting_for_kafka" : view.status), lines }}
  />`;
}

/** A box with a title and lines of text, which are cut to its width; the tooltip has them whole. */
function Node({ box: { x, y, w, h }, link, kind, title, tone, lines }) {
  const shown = lines.filter(Boolean);
  const whole = [title, ...shown].join("\n");
  return html`<a href=${link} class=${`node ${kind} ${tone}`} aria-label=${`${kind} ${title}: ${shown.join("; ")}`}>
    <title>${whole}</title>
    <rect x=${x} y=${y} width=${w} height=${h} rx="8" />
    <circle cx=${x + 14} cy=${y + 17} r="4.5" />
    <text x=${x + 26} y=${y + 22} class="node-title">${cut(title, (w - 34) / 8.2)}</text>
    ${shown.map((line, i) => html`<text x=${x + 12} y=${y + 41 + i * 17} class="node-line">${cut(line, (w - 20) / 6.3)}</text>`)}
  </a>`;
}
