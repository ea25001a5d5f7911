// Calls of the HTTP API. A call that the server answers with 401 waits until the user has given a token.
//
// Invariant: the token is sent in the header of calls to this server, and to nobody else.
import { parseExact } from "./json.js";
import { keepToken, token } from "./storage.js";

/** What the server said instead of an answer. `line` and `column` are there if the SQL has a place. */
export class Refusal extends Error {
  constructor(status, { code, message, line, column }) {
    super(message);
    Object.assign(this, { status, code, line, column });
  }
}

let askForToken = () => Promise.resolve(null);
let tokenChanged = () => {};
let asked = null;
let declined = false;

/** Installs the dialog: a function from a message to the promise of a token, or of null. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** Installs what is called after the token has changed. */
export function onTokenChange(changed) {
  tokenChanged = changed;
}

/** Asks for a token once, however many calls wait for it. */
export function enterToken(message) {
  declined = false;
  asked ??= askForToken(message).then((given) => {
    asked = null;
    declined = given === null;
    if (given !== null) keepToken(given);
    tokenChanged();
    return given;
  });
  return asked;
}

/** Forgets the token. */
export function leave() {
  keepToken(null);
  declined = false;
  tokenChanged();
}

async function send(path, { headers = {}, ...options }) {
  for (;;) {
    const sent = token();
    const authorization = sent === null ? {} : { authorization: `Bearer ${sent}` };
    let response;
    try {
      response = await fetch(path, { cache: "no-store", ...options, headers: { ...headers, ...authorization } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, { code: "unreachable", message: "the server does not answer; is it running?" });
    }
    if (response.ok) return response;
    const refusal = await refused(response);
    if (response.status !== 401) throw refusal;
    // Another call may have been given a token meanwhile.
    if (token() !== sent) continue;
    if (declined || (await enterToken(refusal.message)) === null) throw refusal;
  }
}

async function refused(response) {
  const text = await response.text().catch(() => "");
  try {
    return new Refusal(response.status, JSON.parse(text).error);
  } catch {
    return new Refusal(response.status, { code: "unknown", message: text.slice(0, 500) || response.statusText });
  }
}

/** The JSON answer of a call. */
export async function call(method, path, { body, signal } = {}) {
  const json =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await send(path, { method, signal, ...json });
  const text = await response.text();
  return text ? parseExact(text) : null;
}

export const streams = (signal) => call("GET", "/v1/streams", { signal });
export const views = (signal) => call("GET", "/v1/views", { signal });

/** Rows that the console takes of an answer; it reads no further. */
export const MOST_ROWS = 10_000;
/** Characters that the console takes of an answer. */
const MOST_CHARACTERS = 64 << 20;

/**
 * Runs `sql`: `{columns, rows, frontier, stale, partial, more, seconds}`. `more` is true if there are more rows than
 * `most`. `lenient` answers below earlier frontiers and without partitions that nobody holds, rather than not at all.
 */
export async function query(sql, { signal, most = MOST_ROWS, lenient = false } = {}) {
  const began = performance.now();
  const ending = new AbortController();
  const end = () => ending.abort();
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  try {
    const response = await send("/v1/sql", {
      method: "POST",
      body: JSON.stringify(lenient ? { sql, stale: true, partial: "allow" } : { sql }),
      headers: { "content-type": "application/json", accept: "application/json" },
      signal: ending.signal,
    });
    const answer = await readAnswer(response.body, most);
    return { ...answer, seconds: (performance.now() - began) / 1000 };
  } catch (error) {
    if (error instanceof Refusal || error.name === "AbortError") throw error;
    throw new Refusal(0, {
      code: "broken_off",
      message: "the answer broke off: the query failed after its first rows",
    });
  } finally {
    signal?.removeEventListener("abort", end);
    end();
  }
}

/** Reads an answer whose head is its first line and that has one row per further line. */
export async function readAnswer(body, most) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let [rest, characters, head] = ["", 0, null];
  const rows = [];
  const take = (line) => {
    if (head === null) {
      const open = line.endsWith("[");
      head = parseExact(open ? `${line}]}` : line);
    } else if (line !== "") {
      rows.push(parseExact(line.replace(/(?:,|\]\})$/, "")));
    }
  };
  const whole = (more) => ({ ...head, rows, more });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const text = decoder.decode(value, { stream: true });
    characters += text.length;
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    for (const line of parts) {
      if (rows.length === most) return whole(true);
      take(line);
    }
    if (characters > MOST_CHARACTERS) return whole(true);
  }
  if (rest) take(rest);
  return whole(false);
}
