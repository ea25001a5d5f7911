// Values as people read them. Numbers of answers keep all their digits; only what the console counts itself is shortened.
import { writeExact } from "./json.js";

/** A value of an answer as one line of text; null is the caller's matter. */
export function valueText(value, type, zone) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return isTimestamp(type) ? timeText(value, zone) : value;
  return typeof value === "object" ? writeExact(value) : String(value);
}

export const isTimestamp = (type) => (type ?? "").startsWith("Timestamp");

/** A timestamp of the server, in UTC, as text in `zone` ("utc" or "local") with all its digits. */
export function timeText(iso, zone) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z?$/.exec(iso ?? "");
  if (!parts) return String(iso ?? "");
  const [, day, time, fraction = ""] = parts;
  if (zone !== "local") return `${day} ${time}${fraction}`;
  const at = new Date(`${day}T${time}Z`);
  return `${localDay(at)} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${fraction}`;
}

const two = (number) => String(number).padStart(2, "0");
const localDay = (at) => `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** The texts of ticks on an axis of times, in seconds; the day stands below where it begins. */
export function timeTicks(ticks, zone) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 60;
  const texts = ticks.map((at) => timeText(isoOf(at * 1000), zone));
  return texts.map((text, i) => {
    const [day, time] = text.split(" ");
    if (step >= 86400) return day.slice(5);
    const shown = step >= 60 ? time.slice(0, 5) : time.slice(0, step >= 1 ? 8 : 12);
    return i === 0 || texts[i - 1].slice(0, 10) !== day ? `${shown}\n${day}` : shown;
  });
}

/** Both readings of a time, for a tooltip. */
export const bothTimes = (iso) => `${timeText(iso, "utc")} UTC\n${timeText(iso, "local")} local`;

/** Milliseconds since 1970 as the server writes times. */
export const isoOf = (ms) => new Date(ms).toISOString();

/** An integer with separators: 1,234,567. */
export const count = (number) =>
  number === null || number === undefined ? "–" : String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");

/** Bytes in binary units. */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [Number(number), 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds as a length of time: 850 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return pair(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return pair(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return pair(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

const pair = (a, unit, b, smaller) => (b ? `${a} ${unit} ${b} ${smaller}` : `${a} ${unit}`);

/** Messages a second. */
export const rate = (perSecond) =>
  perSecond === null || perSecond === undefined
    ? "–"
    : `${perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1)}/s`;

/** A number on a chart's axis or in a tile; not for values in tables. */
export function short(number) {
  const absolute = Math.abs(number);
  if (absolute >= 1e12 || (absolute > 0 && absolute < 1e-3)) return number.toExponential(2);
  for (const [limit, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e4, "k"],
  ]) {
    if (absolute >= limit) return `${+(number / (unit === "k" ? 1e3 : limit)).toFixed(1)}${unit}`;
  }
  return String(+number.toFixed(absolute < 1 ? 4 : 2));
}

/** The sum of a frontier's offsets: how many messages lie below. */
export const below = (frontier) => Object.values(frontier ?? {}).reduce((sum, offset) => sum + Number(offset), 0);

/** The text, at most `length` characters long. */
export const cut = (text, length) => {
  const characters = [...String(text ?? "")];
  return characters.length > length ? `${characters.slice(0, Math.max(length - 1, 1)).join("")}…` : characters.join("");
};

/** An identifier as SQL needs it. */
export const quoted = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
