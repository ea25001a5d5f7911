// Which picture an answer makes: the choice of axes, and the numbers to draw. Nothing here draws.

/** Most lines in one picture; further groups are left out, and the picture says so. */
const MOST_LINES = 8;
/** Most bars in one picture. */
const MOST_BARS = 40;

/** What a column can be on a chart: "time", "number", "text", or null. */
export function kindOf(type) {
  if (/^(?:Timestamp|Date)/.test(type)) return "time";
  if (/^(?:U?Int\d|Float|Decimal)/.test(type)) return "number";
  if (/^(?:Large)?Utf8|^Boolean/.test(type)) return "text";
  return null;
}

const isPosition = (name) => name === "_partition" || name === "_offset";

/** The chart that fits the columns: `{kind: "time"|"bars"|"number"|"none", x, y: [...], by}`; columns by index. */
export function choose(columns, rows) {
  const of = (kind) => columns.flatMap((c, i) => (kindOf(c.type) === kind && !isPosition(c.name) ? [i] : []));
  const [times, numbers, texts] = [of("time"), of("number"), of("text")];
  if (!numbers.length || !rows.length) return { kind: "none", x: null, y: [], by: null };
  if (times.length) {
    const by = texts.find((i) => new Set(rows.map((row) => row[i])).size < rows.length) ?? null;
    return { kind: "time", x: times[0], y: by === null ? numbers.slice(0, MOST_LINES) : numbers.slice(0, 1), by };
  }
  if (texts.length) return { kind: "bars", x: texts[0], y: numbers.slice(0, 1), by: null };
  if (rows.length === 1) return { kind: "number", x: null, y: numbers.slice(0, 1), by: null };
  return numbers.length > 1
    ? { kind: "time", x: numbers[0], y: numbers.slice(1, 1 + MOST_LINES), by: null }
    : { kind: "number", x: null, y: numbers.slice(0, 1), by: null };
}

/** `chosen` with the names that a tile has saved put in, as far as the answer has such columns. */
export function chooseBy(columns, rows, saved) {
  const chosen = choose(columns, rows);
  const at = (name) => {
    const i = columns.findIndex((column) => column.name === name);
    return i < 0 ? null : i;
  };
  const y = (saved.y ?? []).map(at).filter((i) => i !== null);
  return {
    kind: saved.kind ?? chosen.kind,
    x: at(saved.x) ?? chosen.x,
    y: y.length ? y : chosen.y,
    by: saved.by ? at(saved.by) : saved.x || saved.y?.length ? null : chosen.by,
  };
}

/** A value of an answer as a number to draw; null if there is none. */
function numberOf(value) {
  if (value === null || value === undefined || value === "") return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

/** A position on the axis of times, in seconds since 1970; numbers stay what they are. */
export function positionOf(value, type) {
  if (kindOf(type) !== "time") return numberOf(value);
  const text = String(value);
  const at = Date.parse(text.length > 10 && !text.endsWith("Z") ? `${text}Z` : text);
  return Number.isNaN(at) ? null : at / 1000;
}

/** Lines over one axis: `{xs, lines: [{label, ys}], left}`; `left` counts the groups that are not drawn. */
export function lines(columns, rows, { x, y, by }) {
  const groups = new Map();
  for (const row of rows) {
    const position = positionOf(row[x], columns[x].type);
    if (position === null) continue;
    for (const i of y) {
      const label = by === null ? columns[i].name : y.length > 1 ? `${row[by]} ${columns[i].name}` : String(row[by]);
      if (!groups.has(label)) groups.set(label, new Map());
      groups.get(label).set(position, numberOf(row[i]));
    }
  }
  // Groups with the most points first, ties in the order of their names, so that colours do not jump between answers.
  const ordered = [...groups].sort(([a, p], [b, q]) => (by === null ? 0 : q.size - p.size || (a < b ? -1 : 1)));
  const drawn = ordered.slice(0, MOST_LINES).sort(([a], [b]) => (by === null ? 0 : a < b ? -1 : 1));
  const xs = [...new Set(drawn.flatMap(([, points]) => [...points.keys()]))].sort((a, b) => a - b);
  return {
    xs,
    lines: drawn.map(([label, points]) => ({ label, ys: xs.map((at) => points.get(at) ?? null) })),
    left: groups.size - drawn.length,
  };
}

/** Bars in the order of the answer: `{bars: [{label, value, share}], left}`; `share` is of the longest bar. */
export function bars(columns, rows, { x, y }) {
  const drawn = rows
    .slice(0, MOST_BARS)
    .map((row) => ({ label: row[x], value: row[y[0]], number: numberOf(row[y[0]]) }));
  const longest = Math.max(...drawn.map((bar) => Math.abs(bar.number ?? 0)), 0) || 1;
  return {
    bars: drawn.map((bar) => ({ ...bar, share: Math.abs(bar.number ?? 0) / longest })),
    left: rows.length - drawn.length,
  };
}
