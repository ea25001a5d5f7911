// What completion offers at a place in a text: tables, columns, functions. Keywords come from the editor's language.
import { statementAt, withoutComments } from "./statements.js";

/** `names`: `{tables: [{schema, name, kind, columns: [{name, type}]}], functions: [{name, kind, about, example}]}`. */
export function suggest(text, position, explicit, names) {
  const before = text.slice(0, position);
  const word = /(?:(\w+)\.)?(\w*)$/.exec(before);
  const [, qualifier, part] = word;
  if (!names || (!part && !qualifier && !explicit) || /^\d/.test(part) || isQuoted(before)) return null;
  const from = position - part.length;
  const statement = statementAt(text, position)?.text ?? "";
  const options = qualifier
    ? qualified(names, qualifier, statement)
    : [...tables(names), ...columns(names, statement), ...functions(names)];
  return options.length ? { from, options, validFor: /^\w*$/ } : null;
}

const isQuoted = (before) => (before.replace(/''/g, "").match(/'/g) ?? []).length % 2 === 1;

const table = (found) => ({ label: found.name, type: "class", detail: found.kind, boost: 2 });
const column = (boost) => (found) => ({ label: found.name, type: "property", detail: found.type, boost });

const tables = (names) => [
  ...names.tables.filter((found) => found.schema === "public").map(table),
  ...[...new Set(names.tables.map((found) => found.schema))]
    .filter((schema) => schema !== "public")
    .map((schema) => ({ label: schema, type: "namespace", detail: "schema", boost: -1 })),
];

/** The columns of the statement's tables, each once; of all tables if it names none. */
function columns(names, statement) {
  const used = names.tables.filter((found) => mentions(statement, found.name));
  const all = used.length ? used : names.tables.filter((found) => found.schema === "public");
  const seen = new Map(all.flatMap((found) => found.columns.map((each) => [each.name, each])));
  return [...seen.values()].map(column(used.length ? 3 : 0));
}

const functions = (names) =>
  names.functions.map((found) => ({
    label: found.name,
    type: "function",
    apply: `${found.name}(`,
    detail: found.kind,
    info: [found.example, found.about].filter(Boolean).join("\n\n") || undefined,
    boost: -2,
  }));

/** After `x.`: the tables of schema x, or the columns of table or alias x. */
function qualified(names, qualifier, statement) {
  const inSchema = names.tables.filter((found) => found.schema === qualifier);
  if (inSchema.length) return inSchema.map(table);
  const before = withoutComments(statement).matchAll(new RegExp(`(\\w+)\\s+(?:as\\s+)?${qualifier}\\b`, "gi"));
  const named = [qualifier, ...[...before].map((match) => match[1])];
  const found = named.map((name) => names.tables.find((each) => each.name === name)).find(Boolean);
  return found ? found.columns.map(column(3)) : [];
}

const mentions = (statement, name) => {
  const at = statement.toLowerCase().indexOf(name.toLowerCase());
  return at >= 0 && !/\w/.test(statement[at - 1] ?? " ") && !/\w/.test(statement[at + name.length] ?? " ");
};
