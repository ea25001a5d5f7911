// A table of any length: only the rows in sight are in the page.
//
// Keys move a current cell, as in a spreadsheet; the cell's whole value can be copied or shown.
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { kindOf } from "../lib/charts.js";
import { bothTimes, cut, isTimestamp, valueText } from "../lib/format.js";
import { copyText } from "./copy.js";
import { show } from "./dialogs.js";
import { zone } from "./hooks.js";

const ROW = 28;
const MARGIN = 8;
const LONGEST = 300;

/** Widths of columns in characters, from the head and the first rows. */
function widths(columns, rows, where) {
  return columns.map((column, i) => {
    const texts = rows.slice(0, 100).map((row) => valueText(row[i], column.type, where).length);
    return Math.min(Math.max(column.name.length, Math.min(column.type.length, 16), ...texts, 4), 48) + 3;
  });
}

/** Shows a value whole. */
const showValue = (column, value, where) =>
  show(
    column.name,
    () =>
      html`<p class="dim">${column.type}</p>
        <pre class="value" tabindex="0">${value === null ? "NULL" : valueText(value, column.type, where)}</pre>`,
  );

export function Grid({ columns, rows, label = "Result", height = 420 }) {
  const where = zone.use();
  const [top, setTop] = useState(0);
  const [cell, setCell] = useState({ row: 0, column: 0 });
  const [seen, setSeen] = useState(height);
  const box = useRef(null);
  const own = useId();
  const width = useMemo(() => widths(columns, rows, where), [columns, rows, where]);
  const template = width.map((characters) => `${characters}ch`).join(" ");
  useEffect(() => setSeen(box.current.clientHeight), [height, rows.length]);

  const first = Math.max(0, Math.floor(top / ROW) - MARGIN);
  const last = Math.min(rows.length, Math.ceil((top + seen) / ROW) + MARGIN);
  const move = (row, column) => {
    const next = {
      row: Math.min(Math.max(row, 0), rows.length - 1),
      column: Math.min(Math.max(column, 0), columns.length - 1),
    };
    setCell(next);
    const [above, under] = [next.row * ROW, (next.row + 2) * ROW];
    if (above < box.current.scrollTop) box.current.scrollTop = above;
    else if (under > box.current.scrollTop + box.current.clientHeight)
      box.current.scrollTop = under - box.current.clientHeight;
    const left = width.slice(0, next.column).reduce((sum, each) => sum + each, 0) * 7.6;
    if (left < box.current.scrollLeft || left > box.current.scrollLeft + box.current.clientWidth - 80)
      box.current.scrollLeft = left;
  };
  const press = (event) => {
    const page = Math.max(Math.floor(seen / ROW) - 2, 1);
    const { row, column } = cell;
    const to = {
      ArrowDown: [row + 1, column],
      ArrowUp: [row - 1, column],
      ArrowRight: [row, column + 1],
      ArrowLeft: [row, column - 1],
      PageDown: [row + page, column],
      PageUp: [row - page, column],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? rows.length - 1 : row, columns.length - 1],
    }[event.key];
    if (to) move(...to);
    else if (event.key === "Enter" && rows[row]) showValue(columns[column], rows[row][column], where);
    else if (event.key === "c" && (event.ctrlKey || event.metaKey) && rows[row] && !String(getSelection())) {
      copyText(valueText(rows[row][column], columns[column].type, where));
    } else return;
    event.preventDefault();
  };
  const id = (row, column) => `${own}-${row}-${column}`;
  const visible = [];
  for (let i = first; i < last; i++) {
    visible.push(
      html`<div
        class="grid-row"
        role="row"
        key=${i}
        aria-rowindex=${i + 2}
        style=${{ top: `${i * ROW}px`, gridTemplateColumns: template }}
      >
        ${columns.map(
          (column, j) =>
            html`<${Cell}
              ...${{ column, value: rows[i][j], where, id: id(i, j), place: `${i}-${j}`, chosen: cell.row === i && cell.column === j }}
              onPick=${() => setCell({ row: i, column: j })}
              onOpen=${() => showValue(column, rows[i][j], where)}
            />`,
        )}
      </div>`,
    );
  }
  return html`<div
    class="grid"
    role="grid"
    tabindex="0"
    ref=${box}
    aria-label=${label}
    aria-rowcount=${rows.length + 1}
    aria-colcount=${columns.length}
    aria-activedescendant=${rows.length ? id(cell.row, cell.column) : null}
    style=${{ maxHeight: `${height}px` }}
    onScroll=${(event) => setTop(event.currentTarget.scrollTop)}
    onKeyDown=${press}
  >
    <div class="grid-head" role="row" aria-rowindex="1" style=${{ gridTemplateColumns: template }}>
      ${columns.map(
        (column) =>
          html`<div
            role="columnheader"
            class=${kindOf(column.type) === "number" ? "right" : ""}
            title=${`${column.name}: ${column.type}`}
          >
            <b>${column.name}</b><small>${column.type}</small>
          </div>`,
      )}
    </div>
    <div class="grid-body" role="presentation" style=${{ height: `${rows.length * ROW}px` }}>${visible}</div>
  </div>`;
}

function Cell({ column, value, where, id, place, chosen, onPick, onOpen }) {
  const number = kindOf(column.type) === "number" ? "right" : "";
  const state = chosen ? "chosen" : "";
  const common = { role: "gridcell", id, "data-cell": place, onMouseDown: onPick, onDblClick: onOpen };
  if (value === null) return html`<div ...${common} class=${`null ${number} ${state}`}>NULL</div>`;
  const text = valueText(value, column.type, where);
  const title = isTimestamp(column.type) && typeof value === "string" ? bothTimes(value) : cut(text, 1000);
  return html`<div ...${common} class=${`${number} ${state}`} title=${title}>
    ${cut(text, LONGEST).replace(/[\r\n\t]+/g, "⏎")}
  </div>`;
}
