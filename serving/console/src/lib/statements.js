// The statements of a text: where they begin and end, and where an error of one of them is in the whole.
//
// A semicolon within a string, a quoted name or a comment ends nothing.

const PARTS = /'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;/g;

/** `[{from, to, text}]` of all statements, without their semicolons and without empty ones. */
export function statements(text) {
  const found = [];
  let from = 0;
  const end = (to) => {
    const part = text.slice(from, to);
    const lead = part.length - part.trimStart().length;
    const trimmed = part.trim();
    if (withoutComments(trimmed)) found.push({ from: from + lead, to: from + lead + trimmed.length, text: trimmed });
    from = to + 1;
  };
  for (const match of text.matchAll(PARTS)) if (match[0] === ";") end(match.index);
  end(text.length);
  return found;
}

/** `text` without comments, trimmed. */
export const withoutComments = (text) =>
  text.replace(PARTS, (part) => (part.startsWith("--") || part.startsWith("/*") ? " " : part)).trim();

/** The statement at `position`: the one around it, or else the one that ends before it, or else the first. */
export function statementAt(text, position) {
  const all = statements(text);
  return all.find((s) => s.from <= position && position <= s.to) ?? all.findLast((s) => s.to < position) ?? all[0];
}

/** True for a text with a statement that removes something: it is asked for once more. */
export const removes = (text) => statements(text).some((statement) => /^drop\b/i.test(withoutComments(statement.text)));

/** True for a statement that only reads. */
export const reads = (text) => /^(?:select|with|show|describe|explain|values|\()/i.test(withoutComments(text));

/**
 * The range of an error's place. `line` and `column` count from 1 in the statement, columns in characters, as the server
 * counts them; the range is of the word there, in the text that the statement begins in at `from`.
 */
export function errorRange(statement, from, line, column) {
  const lines = statement.split("\n");
  const above = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  const characters = [...(lines[line - 1] ?? "")].slice(0, column - 1).join("");
  const start = Math.min(above + characters.length, statement.length);
  const word = /^(?:[\p{L}\p{N}_.]+|"[^"]*"|'[^']*'|\S)/u.exec(statement.slice(start));
  // At the very end, the last character is marked: an empty mark would not be seen.
  if (!word) return { from: from + Math.max(start - 1, 0), to: from + Math.max(start, 1) };
  return { from: from + start, to: from + start + word[0].length };
}
