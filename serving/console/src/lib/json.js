// JSON without rounding: a 64-bit integer that a JavaScript number cannot hold becomes a BigInt.
//
// Invariant: writing what was read gives the same value, digit by digit for integers.

/** Parses `text`; integers beyond 2^53 are BigInts. */
export function parseExact(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  // Unsafe integers pass through JSON.parse as strings behind a mark that no sender can guess.
  const mark = `${crypto.getRandomValues(new Uint32Array(4)).join("-")}:`;
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/gs;
  const marked = text.replace(token, (part) => (isUnsafeInteger(part) ? `"${mark}${part}"` : part));
  const restore = (_, value) =>
    typeof value === "string" && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value;
  return JSON.parse(marked, restore);
}

const isUnsafeInteger = (part) =>
  part.length >= 16 && !part.startsWith('"') && /^-?\d+$/.test(part) && !Number.isSafeInteger(Number(part));

/** Writes a value that `parseExact` has read. */
export function writeExact(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(writeExact).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).map(([key, field]) => `${JSON.stringify(key)}:${writeExact(field)}`);
    return `{${fields.join(",")}}`;
  }
  return JSON.stringify(value);
}
