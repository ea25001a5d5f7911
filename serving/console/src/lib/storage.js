// What the browser keeps: settings and history in localStorage, the token in sessionStorage and nowhere else.
//
// A browser may refuse storage altogether; the console then works without.

function open(name) {
  try {
    return globalThis[name] ?? null;
  } catch {
    return null;
  }
}

function read(area, key, fallback) {
  try {
    const text = open(area)?.getItem(`thalweg.${key}`);
    return text === null || text === undefined ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

function write(area, key, value) {
  try {
    if (value === null) open(area)?.removeItem(`thalweg.${key}`);
    else open(area)?.setItem(`thalweg.${key}`, JSON.stringify(value));
  } catch {
    // Full or forbidden: nothing depends on it.
  }
}

export const setting = (key, fallback) => read("localStorage", key, fallback);
export const keepSetting = (key, value) => write("localStorage", key, value);
export const token = () => read("sessionStorage", "token", null);
export const keepToken = (value) => write("sessionStorage", "token", value);

const MOST_ENTRIES = 200;
const LONGEST_SQL = 20_000;

/** `[{sql, at, seconds, rows, error}]`, newest first. */
export const history = () => {
  const kept = setting("history", []);
  return Array.isArray(kept) ? kept.filter((entry) => typeof entry?.sql === "string") : [];
};

/** Adds an entry; the same text stands once. */
export function remember(entry) {
  if (entry.sql.length > LONGEST_SQL) return;
  keepSetting("history", [entry, ...history().filter((old) => old.sql !== entry.sql)].slice(0, MOST_ENTRIES));
}

export const forget = () => keepSetting("history", null);
