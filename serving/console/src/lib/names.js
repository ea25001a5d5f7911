// The names that completion offers, asked of the server: tables with their columns, and functions.
import { query } from "./api.js";

const COLUMNS = `SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2, ordinal_position`;
const FUNCTIONS = `SELECT routine_name, min(function_type), min(description), min(syntax_example)
FROM information_schema.routines GROUP BY 1 ORDER BY 1`;

/** The tables of an answer to COLUMNS; `kinds` maps names to "stream" or "view". */
function tablesOf(rows, kinds) {
  const tables = new Map();
  for (const [schema, name, column, type] of rows) {
    const key = JSON.stringify([schema, name]);
    if (!tables.has(key)) tables.set(key, { schema, name, kind: kinds[name] ?? "table", columns: [] });
    tables.get(key).columns.push({ name: column, type });
  }
  return [...tables.values()];
}

/** What is known after a refusal too: names without columns. */
const bare = (kinds) => Object.entries(kinds).map(([name, kind]) => ({ schema: "public", name, kind, columns: [] }));

export async function loadTables(kinds, signal) {
  const answer = await query(COLUMNS, { signal, lenient: true }).catch(() => null);
  if (!answer) return bare(kinds);
  const tables = tablesOf(answer.rows, kinds);
  return [...tables, ...bare(kinds).filter(({ name }) => !tables.some((table) => table.name === name))];
}

export async function loadFunctions(signal) {
  const answer = await query(FUNCTIONS, { signal, lenient: true }).catch(() => ({ rows: [] }));
  return answer.rows.map(([name, kind, about, example]) => ({
    name,
    kind: String(kind ?? "").toLowerCase(),
    about: about?.trim(),
    example,
  }));
}
