// Hooks: settings that all parts share, polling that rests while nobody looks, and keys that work everywhere.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { keepSetting, setting } from "../lib/storage.js";

/** A value that several parts read and any may change; kept in the browser under `key`. */
export function shared(key, fallback) {
  let value = setting(key, fallback);
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      keepSetting(key, next);
      listeners.forEach((listener) => listener(next));
    },
    use() {
      const [seen, see] = useState(value);
      useEffect(() => {
        listeners.add(see);
        see(value);
        return () => listeners.delete(see);
      }, []);
      return seen;
    },
  };
}

/** "utc" or "local". */
export const zone = shared("zone", "utc");
/** "light", "dark", or "auto": what the system has. */
export const theme = shared("theme", "auto");

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark": what is chosen, or what the system has at the moment. */
export function useScheme() {
  const chosen = theme.use();
  const [isDark, setDark] = useState(systemIsDark.matches);
  useEffect(() => {
    const changed = () => setDark(systemIsDark.matches);
    systemIsDark.addEventListener("change", changed);
    return () => systemIsDark.removeEventListener("change", changed);
  }, []);
  return chosen === "light" || chosen === "dark" ? chosen : isDark ? "dark" : "light";
}

/**
 * Calls `load(signal)` now and every `every` milliseconds: `{data, error, at, again}`. Calls never overlap, the newest
 * data stay while an error lasts, and nothing is called while the page is hidden.
 */
export function usePoll(load, every, dependencies = []) {
  const [state, setState] = useState({ data: null, error: null, at: null });
  const again = useRef(() => {});
  useEffect(() => {
    const ending = new AbortController();
    let timer = null;
    let busy = false;
    const run = async () => {
      clearTimeout(timer);
      if (busy || document.hidden || ending.signal.aborted) return;
      busy = true;
      try {
        const data = await load(ending.signal);
        if (!ending.signal.aborted) setState({ data, error: null, at: Date.now() });
      } catch (error) {
        if (!ending.signal.aborted) setState((old) => ({ ...old, error }));
      }
      busy = false;
      if (every) timer = setTimeout(run, every);
    };
    const shown = () => !document.hidden && run();
    setState({ data: null, error: null, at: null });
    again.current = run;
    document.addEventListener("visibilitychange", shown);
    run();
    return () => {
      ending.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [every, ...dependencies]);
  return { ...state, again: useCallback(() => again.current(), []) };
}

const isTyping = (event) => {
  const target = event.composedPath()[0];
  return target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/.test(target.tagName ?? "");
};

/** `keys` maps "?" or "g p" to functions. Nothing happens while the user types into a field. */
export function useKeys(keys) {
  useEffect(() => {
    let first = "";
    let timer = null;
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]"))
        return;
      const action = keys[`${first}${event.key}`] ?? keys[event.key];
      clearTimeout(timer);
      first = Object.keys(keys).some((key) => key.startsWith(`${event.key} `)) ? `${event.key} ` : "";
      timer = setTimeout(() => (first = ""), 1500);
      if (action) {
        event.preventDefault();
        first = "";
        action();
      }
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  });
}

/** The width of an element, followed as it changes. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
