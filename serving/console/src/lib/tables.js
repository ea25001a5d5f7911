// An answer as text for other programs: CSV for files, tab-separated values for the clipboard.
import { writeExact } from "./json.js";

const text = (value) => (typeof value === "string" ? value : value === null ? "" : writeExact(value));

/** CSV as RFC 4180 has it; null is an empty field, an empty text is `""`. */
export function csv(columns, rows) {
  const field = (value) => {
    const shown = text(value);
    return value === "" || /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
  };
  const line = (values) => values.map(field).join(",");
  return [line(columns.map((column) => column.name)), ...rows.map(line)].map((row) => `${row}\r\n`).join("");
}

/** Tab-separated values; tabs and line breaks within a value become spaces. */
export function tsv(columns, rows) {
  const line = (values) => values.map((value) => text(value).replace(/[\t\r\n]+/g, " ")).join("\t");
  return [line(columns.map((column) => column.name)), ...rows.map(line)].join("\n");
}
