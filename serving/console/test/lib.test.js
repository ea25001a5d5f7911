// The pure functions of the console, case by case: `node --test test/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress, sqlAddress } from "../src/lib/address.js";
import { readAnswer } from "../src/lib/api.js";
import { bars, choose, chooseBy, kindOf, lines, positionOf } from "../src/lib/charts.js";
import { SHIPPED, complaint, moved, shippedFor } from "../src/lib/dashboards.js";
import {
  below,
  bytes,
  count,
  cut,
  duration,
  quoted,
  rate,
  short,
  timeText,
  timeTicks,
  valueText,
} from "../src/lib/format.js";
import { parseExact, writeExact } from "../src/lib/json.js";
import { layout, rates } from "../src/lib/layout.js";
import { errorRange, reads, removes, statementAt, statements } from "../src/lib/statements.js";
import { suggest } from "../src/lib/suggest.js";
import { csv, tsv } from "../src/lib/tables.js";

const each = (title, check, cases) => test(title, () => cases.forEach((one) => check(...one)));
const same = assert.deepEqual;

each("JSON keeps every digit", (text) => same(writeExact(parseExact(text)), text), [
  ["[9223372036854775807,-9223372036854775808,18446744073709551615]"],
  ["[9007199254740991,9007199254740992,9007199254740993]"],
  ['{"a":[9007199254740993,{"b":"9007199254740993"}],"9007199254740993":1}'],
  ['["1234567890123456789","\\\\","\\"1234567890123456789","a\\\\\\"9007199254740993"]'],
  ["[0.30000000000000004,1e+300,null,true,-0.1]"],
  ['["12345678901234567890.5"]'],
]);

test("a string that looks like the mark stays a string", () =>
  same(parseExact('["1-2-3-4:9007199254740993"]'), ["1-2-3-4:9007199254740993"]));

test("long strings with escapes are read", () => {
  const text = JSON.stringify(["\\".repeat(200_000), "9".repeat(300_000), "\n\u2028😀"]);
  same(writeExact(parseExact(text)), text);
});

each(
  "statements end at semicolons outside of strings, names and comments",
  (text, expect) =>
    same(
      statements(text).map((s) => s.text),
      expect,
    ),
  [
    ["", []],
    [" ; ;-- a;\n", []],
    ["SELECT 1; SELECT 2 ;", ["SELECT 1", "SELECT 2"]],
    ["SELECT ';'; SELECT \"a;b\"", ["SELECT ';'", 'SELECT "a;b"']],
    ["SELECT 'it''s;' -- x;y\n, 2; /* ; */ SELECT 3", ["SELECT 'it''s;' -- x;y\n, 2", "/* ; */ SELECT 3"]],
    ["SELECT 'open; SELECT 2", ["SELECT 'open; SELECT 2"]],
  ],
);

each(
  "the statement at the cursor",
  (position, expect) => same(statementAt("SELECT 1;\n\n SELECT 2; ", position)?.text, expect),
  [
    [0, "SELECT 1"],
    [8, "SELECT 1"],
    [9, "SELECT 1"],
    [10, "SELECT 1"],
    [12, "SELECT 2"],
    [99, "SELECT 2"],
  ],
);

each(
  "the range of an error",
  (statement, from, line, column, expect) => same(errorRange(statement, from, line, column), expect),
  [
    ["SELECT nope", 0, 1, 8, { from: 7, to: 11 }],
    ["SELECT 1\nFROM nowhere x", 10, 2, 6, { from: 24, to: 31 }],
    ["SELECT '😀', nope", 0, 1, 13, { from: 13, to: 17 }],
    ["SELECT 1 +, 2", 0, 1, 11, { from: 10, to: 11 }],
    ["SELECT 1 FROM", 0, 1, 14, { from: 12, to: 13 }],
    ["SELECT", 0, 9, 9, { from: 5, to: 6 }],
  ],
);

each("what removes and what reads", (text, drops, asks) => same([removes(text), reads(text)], [drops, asks]), [
  ["DROP VIEW a", true, false],
  ["-- x\n drop table b", true, false],
  ["SELECT 'DROP'", false, true],
  ["CREATE VIEW a AS SELECT 1; /* */ DROP VIEW b", true, false],
  ["CREATE VIEW dropped AS SELECT 1", false, false],
  ["WITH a AS (SELECT 1) SELECT 2", false, true],
]);

each("durations", (seconds, expect) => same(duration(seconds), expect), [
  [0, "0 ms"],
  [0.0421, "42 ms"],
  [0.9996, "1.0 s"],
  [59.94, "59.9 s"],
  [59.96, "1 min"],
  [125, "2 min 5 s"],
  [3600, "1 h"],
  [7800, "2 h 10 min"],
  [90000, "1 d 1 h"],
  [null, "–"],
  [-1, "0 ms"],
]);

each("numbers", (found, expect) => same(found, expect), [
  [count(1234567), "1,234,567"],
  [count(9007199254740993n), "9,007,199,254,740,993"],
  [count("-1234"), "-1,234"],
  [count(null), "–"],
  [count(12), "12"],
  [bytes(0), "0 B"],
  [bytes(1536), "1.5 KiB"],
  [bytes(1 << 30), "1.0 GiB"],
  [bytes(undefined), "–"],
  [rate(0.25), "0.3/s"],
  [rate(1234.5), "1,235/s"],
  [rate(null), "–"],
  [short(0), "0"],
  [short(12345), "12.3k"],
  [short(1200), "1200"],
  [short(0.25), "0.25"],
  [short(3.5e9), "3.5G"],
  [short(1e15), "1.00e+15"],
  [below({ 0: 5, 1: 7 }), 12],
  [below(null), 0],
  [cut("abcdef", 4), "abc…"],
  [cut("abcd", 4), "abcd"],
  [cut("😀😀😀", 2), "😀…"],
  [quoted("a_1"), "a_1"],
  [quoted('A"b'), '"A""b"'],
  [quoted("1a"), '"1a"'],
]);

each("times", (found, expect) => same(found, expect), [
  [timeText("2026-01-02T03:04:05.123456", "utc"), "2026-01-02 03:04:05.123456"],
  [timeText("2026-01-02T03:04:05Z", "utc"), "2026-01-02 03:04:05"],
  [timeText("9999999999999", "utc"), "9999999999999"],
  [timeText(null, "utc"), ""],
  [timeText("2026-01-02T03:04:05.000001", "local").slice(19), ".000001"],
  [valueText("2026-01-02T03:04:05", "Timestamp(µs)", "utc"), "2026-01-02 03:04:05"],
  [valueText("2026-01-02T03:04:05", "Utf8", "utc"), "2026-01-02T03:04:05"],
  [valueText([9007199254740993n, null], "List(Int64)"), "[9007199254740993,null]"],
  [valueText(false, "Boolean"), "false"],
  [timeTicks([0, 60, 86400], "utc"), ["00:00\n1970-01-01", "00:01", "00:00\n1970-01-02"]],
  [timeTicks([0, 86400], "utc"), ["01-01", "01-02"]],
  [timeTicks([1, 2], "utc"), ["00:00:01\n1970-01-01", "00:00:02"]],
]);

const columns = (...types) => types.map((type, i) => ({ name: `c${i}`, type }));

each("the chart that fits", (types, rows, expect) => same(choose(columns(...types), rows), expect), [
  [["Timestamp(µs)", "Int64", "Float64"], [[1, 2, 3]], { kind: "time", x: 0, y: [1, 2], by: null }],
  [
    ["Utf8", "Timestamp(µs)", "Int64"],
    [
      ["a", 1, 1],
      ["a", 2, 2],
    ],
    { kind: "time", x: 1, y: [2], by: 0 },
  ],
  [
    ["Utf8", "Timestamp(µs)", "Int64"],
    [
      ["a", 1, 1],
      ["b", 2, 2],
    ],
    { kind: "time", x: 1, y: [2], by: null },
  ],
  [["Utf8", "Decimal128(12, 2)"], [["a", "1.5"]], { kind: "bars", x: 0, y: [1], by: null }],
  [["Int64"], [[1]], { kind: "number", x: null, y: [0], by: null }],
  [
    ["Int64", "Int64"],
    [
      [1, 2],
      [2, 3],
    ],
    { kind: "time", x: 0, y: [1], by: null },
  ],
  [["Utf8"], [["a"]], { kind: "none", x: null, y: [], by: null }],
  [["Utf8", "Int64"], [], { kind: "none", x: null, y: [], by: null }],
]);

test("a tile's axes are found by name, and chosen anew where the columns are gone", () => {
  const rows = [["a", "2026-01-01T00:00:00", 1, 2]];
  const named = [
    { name: "k", type: "Utf8" },
    { name: "t", type: "Timestamp(µs)" },
    { name: "n", type: "Int64" },
    { name: "m", type: "Int64" },
  ];
  same(chooseBy(named, rows, { kind: "time", x: "t", y: ["m"], by: "k" }), { kind: "time", x: 1, y: [3], by: 0 });
  same(chooseBy(named, rows, { kind: "bars", x: "gone", y: ["gone"], by: null }), {
    kind: "bars",
    x: 1,
    y: [2, 3],
    by: null,
  });
});

test("lines share one axis, and groups without a value have gaps", () => {
  const named = [
    { name: "k", type: "Utf8" },
    { name: "t", type: "Timestamp(µs)" },
    { name: "n", type: "Decimal128(9, 2)" },
  ];
  const rows = [
    ["b", "1970-01-01T00:00:02", "2.5"],
    ["a", "1970-01-01T00:00:01", null],
    ["a", "1970-01-01T00:00:02", 9007199254740993n],
  ];
  same(lines(named, rows, { x: 1, y: [2], by: 0 }), {
    xs: [1, 2],
    lines: [
      { label: "a", ys: [null, 9007199254740992] },
      { label: "b", ys: [null, 2.5] },
    ],
    left: 0,
  });
  const many = Array.from({ length: 20 }, (_, i) => [`k${i}`, "1970-01-01T00:00:00", "1"]);
  same(lines(named, many, { x: 1, y: [2], by: 0 }).left, 12);
  same(
    [
      positionOf("1970-01-01", "Date32"),
      positionOf("1970-01-01T00:00:01.5Z", 'Timestamp(µs, "+00:00")'),
      positionOf("99999999999999999", "Timestamp(µs)"),
    ],
    [0, 1.5, null],
  );
  same(["UInt64", "Float16", "Date64", "Boolean", "List(Int64)", "Interval(MonthDayNano)"].map(kindOf), [
    "number",
    "number",
    "time",
    "text",
    null,
    null,
  ]);
});

test("bars are shares of the longest", () => {
  const found = bars(
    columns("Utf8", "Int64"),
    [
      ["a", 4],
      ["b", -8],
      [null, null],
    ],
    { x: 0, y: [1] },
  );
  same(
    found.bars.map((bar) => bar.share),
    [0.5, 1, 0],
  );
  same(bars(columns("Utf8", "Int64"), [], { x: 0, y: [1] }), { bars: [], left: 0 });
});

test("answers as CSV and for the clipboard", () => {
  const rows = [
    ["a,b", null, 9007199254740993n],
    ['say "x"', "", [1, null]],
    ["l\r\nm", "t\tu", false],
  ];
  same(
    csv(columns("Utf8", "Utf8", "Int64"), rows),
    'c0,c1,c2\r\n"a,b",,9007199254740993\r\n"say ""x""","","[1,null]"\r\n"l\r\nm",t\tu,false\r\n',
  );
  same(tsv(columns("Utf8", "Utf8", "Int64"), rows.slice(2)), "c0\tc1\tc2\nl m\tt u\tfalse");
});

const stream = (text, size = 7) => {
  const bytes = new TextEncoder().encode(text);
  const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
  return new ReadableStream({ start: (to) => (parts.forEach((part) => to.enqueue(part)), to.close()) });
};

test("answers are read row by row, and no further than asked", async () => {
  const head = '{"columns":[{"name":"é","type":"Int64"}],"frontier":{"s":{"0":9007199254740993}},"rows":[';
  const text = `${head}\n[1,"]}"],\n[9007199254740993,[{"a":[1]}]]]}\n`;
  const whole = await readAnswer(stream(text), 2);
  same(whole.rows, [
    [1, "]}"],
    [9007199254740993n, [{ a: [1] }]],
  ]);
  same([whole.more, whole.columns[0].name, whole.frontier.s[0]], [false, "é", 9007199254740993n]);
  const part = await readAnswer(stream(text), 1);
  same([part.rows.length, part.more], [1, true]);
  const none = await readAnswer(stream('{"columns":[],"frontier":{},"rows":[]}\n'), 5);
  same([none.rows, none.more], [[], false]);
});

const names = {
  tables: [
    {
      schema: "public",
      name: "site_alarms",
      kind: "view",
      columns: [
        { name: "site", type: "Utf8" },
        { name: "alarms", type: "Int64" },
      ],
    },
    { schema: "public", name: "prices", kind: "stream", columns: [{ name: "symbol", type: "Utf8" }] },
    { schema: "batch", name: "site_alarms", kind: "view", columns: [] },
  ],
  functions: [{ name: "sum", kind: "aggregate", about: "adds", example: "sum(x)" }],
};

each(
  "completion",
  (text, includes, excludes) => {
    const at = text.indexOf("|");
    const labels = suggest(text.replace("|", ""), at, false, names)?.options.map((option) => option.label) ?? [];
    includes.forEach((label) => assert(labels.includes(label), `${label} in ${labels}`));
    excludes.forEach((label) => assert(!labels.includes(label), `no ${label} in ${labels}`));
  },
  [
    ["SELECT s| FROM site_alarms", ["site", "alarms", "site_alarms", "sum"], ["symbol"]],
    ["SELECT s|", ["site", "symbol", "sum", "batch"], []],
    ["SELECT a.| FROM site_alarms AS a", ["site"], ["symbol", "sum"]],
    ["SELECT * FROM batch.|", ["site_alarms"], ["site"]],
    ["SELECT prices.sy| FROM prices", ["symbol"], ["site"]],
    ["SELECT 's| FROM x", [], ["site"]],
    ["SELECT 1|", [], ["site"]],
  ],
);

test("the pipeline fits its width, and no boxes overlap", () => {
  const streams = ["a", "b"].map((name) => ({ name }));
  const views = ["v1", "v2", "v3", "v4"].map((name) => ({ name, stream: "a" }));
  for (const width of [360, 500, 759, 760, 1280, 3000]) {
    const placed = layout(streams, views, width);
    const boxes = placed.blocks.flatMap((block) => [
      block.topic,
      block.archive,
      block.speed,
      ...block.views.map((view) => view.box),
    ]);
    same(boxes.length, 10);
    for (const one of boxes) {
      assert(one.x >= 0 && one.x + one.w <= width && one.w > 100, `${width}: ${JSON.stringify(one)}`);
      assert(one.y >= 0 && one.y + one.h <= placed.height, `${width}: ${JSON.stringify(one)}`);
      const apart = (other) =>
        one === other ||
        one.x + one.w <= other.x ||
        other.x + other.w <= one.x ||
        one.y + one.h <= other.y ||
        other.y + other.h <= one.y;
      assert(boxes.every(apart), `${width}: ${JSON.stringify(one)}`);
    }
  }
  same(rates({ at: 2000, sums: { a: 300, b: 1 } }, { at: 0, sums: { a: 100 } }), { a: 100, b: null });
  same(rates({ at: 2000, sums: {} }, null), {});
});

each("addresses", (hash, expect) => same(parseAddress(hash), expect), [
  ["", { page: "sql", name: null, query: null }],
  ["#/views/a%2Fb", { page: "views", name: "a/b", query: null }],
  ["#/views/%", { page: "sql", name: null, query: null }],
  [sqlAddress("SELECT '?#&%+' -- ü\n"), { page: "sql", name: null, query: "SELECT '?#&%+' -- ü\n" }],
]);

test("dashboards", () => {
  same(["a", "a-b_1", "9"].map(complaint), [null, null, null]);
  ["", "A", "-a", "a/b", "..", "demo:machines", "a".repeat(64)].forEach((name) => assert(complaint(name), name));
  same(
    shippedFor(["device_minutes", "site_alarms", "stuck_sensors"]).map(({ name }) => name),
    ["demo:machines"],
  );
  same(SHIPPED.length, 3);
  same(
    [moved(["a", "b"], 0, 1), moved(["a", "b"], 0, -1)],
    [
      ["b", "a"],
      ["a", "b"],
    ],
  );
});
