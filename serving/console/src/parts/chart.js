// Pictures of an answer: lines over time by uPlot, bars as plain elements, a single number.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { html } from "../html.js";
import { bars, kindOf, lines } from "../lib/charts.js";
import { count, cut, isoOf, short, timeText, timeTicks, valueText } from "../lib/format.js";
import { useScheme, useWidth, zone } from "./hooks.js";

/** `choice` is that of lib/charts.js. */
export function Chart({ columns, rows, choice, height = 300, label = "Chart" }) {
  if (choice.kind === "number") return html`<${Single} ...${{ columns, rows, choice, label }} />`;
  if (choice.kind === "none" || choice.x === null || !choice.y.length || !rows.length) {
    return html`<p class="empty" style=${{ height: `${height}px` }}>
      ${rows.length ? "These columns make no chart: it takes a number, and a time or a text." : "There are no rows."}
    </p>`;
  }
  if (choice.kind === "bars") return html`<${Bars} ...${{ columns, rows, choice, label, height }} />`;
  return html`<${Lines} ...${{ columns, rows, choice, height, label }} />`;
}

function Single({ columns, rows, choice, label }) {
  const i = choice.y[0] ?? 0;
  const value = rows[0]?.[i];
  const text = value === undefined ? "–" : value === null ? "NULL" : valueText(value, columns[i].type);
  const shown = /^-?\d+$/.test(text) ? count(text) : text;
  return html`<div class="single" role="img" aria-label=${`${label}: ${shown}`}>
    <strong>${cut(shown, 40)}</strong><span>${columns[i]?.name ?? ""}</span>
  </div>`;
}

function Bars({ columns, rows, choice, label, height }) {
  const where = zone.use();
  const { bars: drawn, left } = bars(columns, rows, choice);
  const [x, y] = [columns[choice.x], columns[choice.y[0]]];
  const widest = Math.max(4, ...drawn.map((bar) => String(bar.value ?? "NULL").length));
  return html`<div
    class="bars"
    role="list"
    aria-label=${`${label}: ${y.name} by ${x.name}`}
    style=${{ maxHeight: `${height}px` }}
    tabindex="0"
  >
    ${drawn.map(
      (bar) =>
        html`<div
          role="listitem"
          class="bar"
          style=${{ gridTemplateColumns: `minmax(60px, 30%) 1fr ${Math.min(widest, 24)}ch` }}
        >
          <span class="bar-label" title=${String(bar.label)}
            >${bar.label === null ? "NULL" : valueText(bar.label, x.type, where)}</span
          >
          <span class="bar-track"
            ><span
              class=${bar.number < 0 ? "bar-fill negative" : "bar-fill"}
              style=${{ width: `${bar.share * 100}%` }}
            ></span
          ></span>
          <span class="bar-value">${bar.value === null ? "NULL" : valueText(bar.value, y.type)}</span>
        </div>`,
    )}
    ${left > 0 && html`<p class="dim">${count(left)} more rows are not drawn</p>`}
  </div>`;
}

const LEGEND = 64;

function Lines({ columns, rows, choice, height, label }) {
  const [box, width] = useWidth();
  const where = zone.use();
  const scheme = useScheme();
  const plot = useRef(null);
  const drawn = lines(columns, rows, choice);
  const isTime = kindOf(columns[choice.x].type) === "time";
  const names = drawn.lines.map((line) => line.label);
  const data = [drawn.xs, ...drawn.lines.map((line) => line.ys)];
  // A picture with other lines is a new one; new numbers move the old one.
  const shape = JSON.stringify([names, isTime, where, scheme, height, choice.y.length]);
  useEffect(() => {
    if (width < 50) return undefined;
    const made = new uPlot(options({ names, isTime, where, width, height: height - LEGEND }), data, box.current);
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [shape, width < 50]);
  useEffect(() => plot.current?.setSize({ width, height: height - LEGEND }), [width]);
  useEffect(() => plot.current?.setData(data), [JSON.stringify(data)]);
  const last = drawn.xs.at(-1);
  const ends = last === undefined ? "" : `, up to ${isTime ? timeText(isoOf(last * 1000), where) : last}`;
  return html`<figure
    class="lines"
    role="img"
    aria-label=${`${label}: ${cut(names.join(", "), 200)} by ${columns[choice.x].name}${ends}`}
    data-points=${drawn.xs.length}
    data-last=${last ?? ""}
  >
    <div ref=${box} style=${{ height: `${height}px` }}></div>
    ${drawn.left > 0 && html`<figcaption class="dim">${count(drawn.left)} more groups are not drawn</figcaption>`}
  </figure>`;
}

function options({ names, isTime, where, width, height }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { stroke: colour("--grid"), width: 1 },
  };
  const zoned =
    where === "utc"
      ? (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC")
      : (seconds) => new Date(seconds * 1000);
  return {
    width,
    height,
    tzDate: zoned,
    scales: { x: { time: isTime } },
    cursor: { y: false, points: { size: 7 } },
    legend: { live: true },
    axes: [
      isTime ? { ...axis, space: 70, values: (_, ticks) => timeTicks(ticks, where) } : axis,
      { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))) },
    ],
    series: [
      isTime ? { value: (_, at) => (at === null ? "–" : timeText(isoOf(at * 1000), where).slice(0, 19)) } : {},
      ...names.map((name, i) => ({
        label: cut(name, 32),
        stroke: colour(`--series-${(i % 8) + 1}`),
        width: 2,
        spanGaps: true,
        points: { show: undefined, size: 5 },
        value: (_, value) => (value === null || value === undefined ? "–" : String(+value.toPrecision(10))),
      })),
    ],
  };
}
