// Dialogs: a question, the token, the list of keys, a long value. The browser's own <dialog> keeps the focus inside.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

let open = () => {};

/** Shows `render(close)` in a dialog; the promise has what `close` was given, or null if the user left. */
export const show = (title, render) => new Promise((resolve) => open({ title, render, resolve }));

/** Where dialogs appear; stands once in the page. */
export function Dialogs() {
  const [queue, setQueue] = useState([]);
  open = (dialog) => setQueue((old) => [...old, dialog]);
  const current = queue[0];
  if (!current) return null;
  const close = (value = null) => {
    setQueue((old) => old.filter((dialog) => dialog !== current));
    current.resolve(value);
  };
  return html`<${Modal} key=${current} title=${current.title} close=${close}>${current.render(close)}<//>`;
}

function Modal({ title, close, children }) {
  const ref = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    close();
  };
  return html`<dialog ref=${ref} aria-label=${title} onCancel=${cancel}>
    <header>
      <h2>${title}</h2>
      <button class="plain" aria-label="Close" onClick=${() => close()}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

/** Asks before something is done: the promise of true or false. */
export async function confirm(title, text, action = "Go on", { danger = false } = {}) {
  const answer = await show(
    title,
    (close) =>
      html`<p>${text}</p>
        <footer>
          <button onClick=${() => close()}>Cancel</button>
          <button class=${danger ? "danger" : "primary"} autofocus onClick=${() => close(true)}>${action}</button>
        </footer>`,
  );
  return answer === true;
}

/** Asks for one line of text: the promise of the text or null. `check` gives a complaint or null. */
export const askText = (
  title,
  label,
  { value = "", note = "", type = "text", action = "OK", check = () => null } = {},
) => show(title, (close) => html`<${TextForm} ...${{ label, value, note, type, action, check, close }} />`);

function TextForm({ label, value, note, type, action, check, close }) {
  const [text, setText] = useState(value);
  const complaint = text === "" ? null : check(text);
  const submit = (event) => {
    event.preventDefault();
    if (text !== "" && !check(text)) close(text);
  };
  return html`<form onSubmit=${submit}>
    ${note && html`<p>${note}</p>`}
    <label class="field"
      >${label}
      <input
        type=${type}
        value=${text}
        autofocus
        autocomplete="off"
        spellcheck=${false}
        onInput=${(event) => setText(event.target.value)}
        aria-invalid=${Boolean(complaint)}
      />
    </label>
    <p class="complaint" role="status">${complaint ?? ""}</p>
    <footer>
      <button type="button" onClick=${() => close()}>Cancel</button>
      <button class="primary" disabled=${text === "" || Boolean(complaint)}>${action}</button>
    </footer>
  </form>`;
}

export const askToken = (message) =>
  askText("This server asks for a token", "Token", {
    note: `${message}. The token stays in this tab and is forgotten with it.`,
    type: "password",
    action: "Use it",
    check: (text) =>
      /^[\x21-\x7e]+$/.test(text.trim()) ? null : "A token has no spaces and no characters beyond ASCII.",
  }).then((text) => text?.trim() ?? null);

const KEYS = [
  ["Ctrl Enter, ⌘ Enter", "run the selection, or the statement at the cursor"],
  ["Esc", "cancel the running query; in the editor, leave it"],
  ["Ctrl Space", "complete a word in the editor"],
  ["e", "go to the editor"],
  ["g s", "SQL"],
  ["g p", "pipeline"],
  ["g d", "dashboards"],
  ["h", "history of queries"],
  ["t", "light, dark, or as the system has it"],
  ["u", "times in UTC or local"],
  ["↑ ↓ ← →, Home, End, Page ↑ ↓", "move in a table of results"],
  ["Ctrl C, Enter", "in a table: copy the cell, show it whole"],
  ["?", "this list"],
];

export const showKeys = () =>
  show(
    "Keys",
    () =>
      html`<dl class="keys">
        ${KEYS.map(
          ([key, what]) =>
            html`<div>
              <dt><kbd>${key}</kbd></dt>
              <dd>${what}</dd>
            </div>`,
        )}
      </dl>`,
  );
