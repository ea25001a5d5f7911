// The address of a page: `#/sql?q=…`, `#/pipeline`, `#/streams/NAME`, `#/views/NAME`, `#/dashboards/NAME`.

/** `{page, name, query}`; what an address does not have is null. An address that cannot be read is that of the SQL page. */
export function parseAddress(hash) {
  const [path, parameters = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  try {
    const [page, name] = path.split("/").map(decodeURIComponent);
    return { page: page || "sql", name: name || null, query: new URLSearchParams(parameters).get("q") };
  } catch {
    return { page: "sql", name: null, query: null };
  }
}

export const sqlAddress = (text) => `#/sql?q=${encodeURIComponent(text)}`;
