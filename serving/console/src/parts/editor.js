// The SQL editor: CodeMirror with completion, and the place of an error marked.
//
// It stands in a shadow root: there CodeMirror's styles are constructed style sheets, which the page's policy
// (no inline styles) lets pass.
import { useEffect, useRef } from "preact/hooks";
import { autocompletion, closeBrackets, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { PostgreSQL, SQLDialect, keywordCompletionSource, sql } from "@codemirror/lang-sql";
import { HighlightStyle, bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { EditorState, Prec, StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView, drawSelection, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { html } from "../html.js";
import { suggest } from "../lib/suggest.js";

const dialect = SQLDialect.define({
  ...PostgreSQL.spec,
  keywords:
    "all and any as asc between by case cast create cross default describe desc distinct drop else end except exists explain external false fetch filter first following for from full group grouping having if ilike in inner intersect interval into is join kafka last lateral left like limit location materialized natural not null nulls offset on options or order outer over partition preceding qualify range replace right row rows select set show similar sets stored table then to true unbounded union unnest using values view when where window with within",
});

const highlighting = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  { tag: [tags.comment, tags.lineComment, tags.blockComment], color: "var(--code-comment)", fontStyle: "italic" },
  { tag: tags.typeName, color: "var(--code-type)" },
]);

const look = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--field)", fontSize: "14px", height: "100%" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { fontFamily: "var(--mono)", caretColor: "var(--text)", padding: "8px 0" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-gutters": { backgroundColor: "var(--field)", color: "var(--dim)", border: "none" },
  ".cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": {
    backgroundColor: "var(--selection)",
  },
  ".cm-placeholder": { color: "var(--dim)" },
  ".cm-error-place": {
    textDecoration: "underline wavy var(--bad)",
    textUnderlineOffset: "3px",
    backgroundColor: "var(--bad-soft)",
  },
  ".cm-tooltip": {
    backgroundColor: "var(--panel)",
    color: "var(--text)",
    border: "1px solid var(--line)",
    borderRadius: "6px",
    overflow: "hidden",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", maxHeight: "16em" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "3px 8px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "inherit", opacity: "0.75", fontStyle: "normal", marginLeft: "1em" },
  ".cm-completionInfo": { maxWidth: "22em", whiteSpace: "pre-wrap", fontSize: "12px", padding: "6px 8px" },
});

/**
 * Typing over a selection. Left to the browser, the new text would carry a style attribute like the old one's, which the
 * page's policy forbids.
 */
function typeOver(event, view) {
  const { main } = view.state.selection;
  if (event.inputType !== "insertText" || event.isComposing || main.empty || !event.data) return false;
  const replace = () =>
    view.state.update(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
  const isHandled = view.state
    .facet(EditorView.inputHandler)
    .some((handle) => handle(view, main.from, main.to, event.data, replace));
  if (!isHandled) view.dispatch(replace());
  return true;
}

const markError = StateEffect.define();
const errorPlace = StateField.define({
  create: () => Decoration.none,
  update(marks, transaction) {
    for (const effect of transaction.effects) {
      if (effect.is(markError)) {
        const end = transaction.state.doc.length;
        const [from, to] = effect.value ? [Math.min(effect.value.from, end), Math.min(effect.value.to, end)] : [0, 0];
        return from < to
          ? Decoration.set(Decoration.mark({ class: "cm-error-place" }).range(from, to))
          : Decoration.none;
      }
    }
    // A change of the text ends the mark: the place was one of the old text.
    return transaction.docChanged ? Decoration.none : marks;
  },
  provide: (field) => EditorView.decorations.from(field),
});

/** What a page does with an editor: read, replace, mark, focus. */
const control = (view) => ({
  text: () => view.state.doc.toString(),
  selection: () => view.state.selection.main,
  replace: (text) =>
    view.dispatch({
      changes: { from: 0, to: view.state.doc.length, insert: text },
      selection: { anchor: text.length },
    }),
  insert: (text) => {
    view.dispatch(view.state.replaceSelection(text));
    view.focus();
  },
  mark: (range) => view.dispatch({ effects: markError.of(range) }),
  goTo: (position) => {
    const anchor = Math.min(position, view.state.doc.length);
    view.dispatch({ selection: { anchor }, scrollIntoView: true });
    view.focus();
  },
  focus: () => view.focus(),
});

/** `names` is what completion knows; `onReady` is given the control. */
export function Editor({ text, names, label, onRun, onChange, onReady, onLeave }) {
  const host = useRef(null);
  const latest = useRef({});
  latest.current = { names, onRun, onChange, onLeave };
  useEffect(() => {
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const run = () => (latest.current.onRun?.(), true);
    const leave = () => (latest.current.onLeave?.(), true);
    const complete = (context) =>
      suggest(context.state.doc.toString(), context.pos, context.explicit, latest.current.names);
    const view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: text,
        extensions: [
          look,
          lineNumbers(),
          history(),
          drawSelection(),
          bracketMatching(),
          closeBrackets(),
          EditorView.lineWrapping,
          sql({ dialect, upperCaseKeywords: true }),
          syntaxHighlighting(highlighting),
          autocompletion({ override: [complete, keywordCompletionSource(dialect, true)], icons: false }),
          Prec.highest(keymap.of([{ key: "Mod-Enter", run }])),
          keymap.of([
            ...completionKeymap,
            ...historyKeymap,
            ...defaultKeymap.filter((binding) => binding.key !== "Escape"),
          ]),
          Prec.lowest(keymap.of([{ key: "Escape", run: leave }])),
          errorPlace,
          EditorView.domEventHandlers({ beforeinput: typeOver }),
          placeholder("SELECT …"),
          EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false", autocapitalize: "off" }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current.onChange?.(update.state.doc.toString());
          }),
        ],
      }),
    });
    onReady?.(control(view));
    return () => view.destroy();
  }, []);
  return html`<div class="editor" ref=${host}></div>`;
}
