//! The columns of the stream `things`, the values of its messages, and what queries must answer for them.
//!
//! Invariant: what a message says and what an answer shows are both written here by hand, side by side.

use serde_json::Value;

/// An expression over one column.
pub(super) struct Case {
    pub(super) sql: &'static str,
    /// The definition of the column.
    pub(super) column: &'static str,
    /// For each message, the JSON value of the column; `None` if the key is missing.
    inputs: Vec<Option<&'static str>>,
    /// For each input, the value of the expression.
    outputs: Vec<Value>,
    /// True if `min` and `max` are defined. The outputs are then in ascending order.
    pub(super) ordered: bool,
    /// An SQL literal, and the index of the output that equals it.
    pub(super) literal: Option<(&'static str, usize)>,
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) reject: bool,
}

pub(super) const PARTITIONS: i32 = 2;
pub(super) const OFFSETS: i64 = 22;

/// All messages, in the order of partition and offset. Two of them are rejects.
pub(super) fn events() -> Vec<Event> {
    let places = (0..PARTITIONS).flat_map(|partition| (0..OFFSETS).map(move |offset| (partition, offset)));
    places.map(|(partition, offset)| Event { partition, offset, reject: offset == 13 }).collect()
}

impl Event {
    fn number(self) -> usize {
        (self.offset + 5 * i64::from(self.partition)) as usize
    }

    /// The key of the message. It is not text in one of four messages, and missing in another.
    pub(super) fn key_bytes(self) -> Option<&'static [u8]> {
        [Some(&b"oslo"[..]), Some(b"rome"), Some(b"\xff\x00"), None][self.number() % 4]
    }

    pub(super) fn key(self) -> Option<&'static str> {
        self.key_bytes().and_then(|key| std::str::from_utf8(key).ok())
    }

    pub(super) fn message(self, cases: &[Case]) -> String {
        if self.reject {
            return "{".to_owned();
        }
        let mut seen = Vec::new();
        let mut fields = Vec::new();
        for case in cases.iter().filter(|case| !case.column.is_empty()) {
            let name = case.column.split(' ').next().unwrap();
            if !seen.contains(&name) {
                seen.push(name);
                fields.extend(case.inputs[self.number() % case.inputs.len()].map(|json| format!("\"{name}\":{json}")));
            }
        }
        format!("{{{}}}", fields.join(","))
    }
}

impl Case {
    pub(super) fn value(&self, event: &Event) -> Value {
        self.output(event.number() % self.outputs.len())
    }

    pub(super) fn output(&self, at: usize) -> Value {
        self.outputs[at].clone()
    }

    pub(super) fn rank(&self, value: &Value) -> usize {
        self.outputs.iter().position(|output| output == value).unwrap()
    }
}

/// Values of one column: its definition, the inputs, and whether they have an order.
struct Column {
    definition: &'static str,
    inputs: &'static [&'static str],
    ordered: bool,
}

/// A scalar column, whose expression is its name. Each value is written as in the message and as in the answer. A
/// missing key and null are added.
fn scalar(definition: &'static str, values: &[(&'static str, &'static str)], literal: Option<&'static str>) -> Case {
    let inputs = [None, Some("null")].into_iter().chain(values.iter().map(|(input, _)| Some(*input)));
    let outputs = ["null", "null"].into_iter().chain(values.iter().map(|(_, output)| *output));
    Case {
        sql: definition.split(' ').next().unwrap(),
        column: definition,
        inputs: inputs.collect(),
        outputs: outputs.map(|json| serde_json::from_str(json).unwrap()).collect(),
        ordered: true,
        literal: literal.map(|literal| (literal, 2)),
    }
}

impl Column {
    /// An expression over the column. `outputs` are JSON, one for each input; a missing key gives null.
    fn case(&self, sql: &'static str, outputs: &[&str], literal: Option<(&'static str, usize)>) -> Case {
        assert_eq!(outputs.len(), self.inputs.len(), "{sql}");
        let outputs = std::iter::once(&"null").chain(outputs);
        Case {
            sql,
            column: self.definition,
            inputs: std::iter::once(None).chain(self.inputs.iter().copied().map(Some)).collect(),
            outputs: outputs.map(|json| serde_json::from_str(json).unwrap()).collect(),
            ordered: self.ordered,
            literal: literal.map(|(literal, at)| (literal, at + 1)),
        }
    }
}

/// An expression over the message itself.
fn of_message(sql: &'static str, outputs: [&str; 4], ordered: bool, literal: Option<(&'static str, usize)>) -> Case {
    let outputs = outputs.map(|json| serde_json::from_str(json).unwrap()).to_vec();
    Case { sql, column: "", inputs: Vec::new(), outputs, ordered, literal }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        scalar("flag BOOLEAN", &[("false", "false"), ("true", "true")], Some("false")),
        scalar("tiny TINYINT", &[("-128", "-128"), ("0", "0"), ("127", "127")], Some("-128")),
        scalar("small SMALLINT", &[("-32768", "-32768"), ("32767", "32767")], Some("-32768")),
        scalar("whole INT", &[("-2147483648", "-2147483648"), ("7.0", "7")], Some("-2147483648")),
        scalar(
            "big BIGINT",
            &[("-9223372036854775808", "-9223372036854775808"), ("9007199254740993", "9007199254740993")],
            Some("-9223372036854775808"),
        ),
        scalar("utiny TINYINT UNSIGNED", &[("0", "0"), ("255", "255")], Some("0")),
        scalar(
            "ubig BIGINT UNSIGNED",
            &[("1", "\"1\""), ("18446744073709551615", "\"18446744073709551615\"")],
            Some("1"),
        ),
        scalar("single REAL", &[("-2.5", "-2.5"), ("0.25", "0.25"), ("3e38", "3e38")], Some("-2.5")),
        scalar("double_ DOUBLE", &[("-1e300", "-1e300"), ("0.1", "0.1"), ("12", "12.0")], Some("-1e300")),
        scalar(
            "amount DECIMAL(20, 4)",
            &[("-1234567890123456.7891", "\"-1234567890123456.7891\""), ("1.5", "\"1.5000\"")],
            Some("CAST('-1234567890123456.7891' AS DECIMAL(20, 4))"),
        ),
        scalar(
            "huge DECIMAL(38, 0)",
            &[("1", "\"1\""), ("99999999999999999999999999999999999999", "\"99999999999999999999999999999999999999\"")],
            Some("1"),
        ),
        scalar(
            "word STRING",
            &[(r#""""#, r#""""#), (r#""a""#, r#""a""#), (r#""\u00e4 much longer text""#, r#""ä much longer text""#)],
            Some("''"),
        ),
        scalar("raw BYTEA", &[(r#""""#, r#""""#), (r#""00fF""#, r#""00ff""#)], Some("X''")),
        scalar(
            "day DATE",
            &[(r#""0001-01-01""#, r#""0001-01-01""#), ("19844", r#""2024-05-01""#)],
            Some("DATE '0001-01-01'"),
        ),
        scalar(
            "at TIMESTAMP",
            &[
                (r#""1969-12-31T23:59:59.999999""#, r#""1969-12-31T23:59:59.999999""#),
                (r#""2024-05-01T14:00+02:00""#, r#""2024-05-01T12:00:00""#),
            ],
            Some("TIMESTAMP '1969-12-31T23:59:59.999999'"),
        ),
        scalar(
            "zoned TIMESTAMP WITH TIME ZONE",
            &[
                (r#""2024-05-01T14:00:00+02:00""#, r#""2024-05-01T12:00:00Z""#),
                ("1714564800000001", r#""2024-05-01T12:00:00.000001Z""#),
            ],
            Some("TIMESTAMPTZ '2024-05-01T12:00:00Z'"),
        ),
    ];
    let doc = Column {
        definition: "doc STRUCT<buyer STRUCT<name STRING, tags STRING[], born DATE>, n INT, cost DECIMAL(10, 2)>",
        inputs: &[
            "null",
            "{}",
            r#"{"buyer":null,"n":2}"#,
            r#"{"buyer":{},"n":null,"cost":1}"#,
            r#"{"buyer":{"name":"Ada","tags":["x","y"],"born":"1815-12-10"},"n":1,"cost":2.5}"#,
            r#"{"buyer":{"NAME":"Bo","tags":[]},"N":3}"#,
            r#"{"buyer":{"name":"Cy","tags":[null,"z"]}}"#,
        ],
        ordered: false,
    };
    let sorted = Column { ordered: true, ..doc };
    cases.extend([
        doc.case(
            "doc",
            &[
                "null",
                r#"{"buyer":null,"n":null,"cost":null}"#,
                r#"{"buyer":null,"n":2,"cost":null}"#,
                r#"{"buyer":{"name":null,"tags":null,"born":null},"n":null,"cost":"1.00"}"#,
                r#"{"buyer":{"name":"Ada","tags":["x","y"],"born":"1815-12-10"},"n":1,"cost":"2.50"}"#,
                r#"{"buyer":{"name":"Bo","tags":[],"born":null},"n":3,"cost":null}"#,
                r#"{"buyer":{"name":"Cy","tags":[null,"z"],"born":null},"n":null,"cost":null}"#,
            ],
            None,
        ),
        doc.case(
            "doc.buyer",
            &[
                "null",
                "null",
                "null",
                r#"{"name":null,"tags":null,"born":null}"#,
                r#"{"name":"Ada","tags":["x","y"],"born":"1815-12-10"}"#,
                r#"{"name":"Bo","tags":[],"born":null}"#,
                r#"{"name":"Cy","tags":[null,"z"],"born":null}"#,
            ],
            None,
        ),
        sorted.case(
            "doc.buyer.name",
            &["null", "null", "null", "null", r#""Ada""#, r#""Bo""#, r#""Cy""#],
            Some(("'Ada'", 4)),
        ),
        doc.case(
            "doc['buyer']['tags']",
            &["null", "null", "null", "null", r#"["x","y"]"#, "[]", r#"[null,"z"]"#],
            None,
        ),
        doc.case(
            "doc['buyer']['tags'][1]",
            &["null", "null", "null", "null", r#""x""#, "null", "null"],
            Some(("'x'", 4)),
        ),
        doc.case("doc.buyer.tags[2]", &["null", "null", "null", "null", r#""y""#, "null", r#""z""#], None),
        doc.case("things.doc.n", &["null", "null", "2", "null", "1", "3", "null"], Some(("3", 5))),
        doc.case(
            "doc.buyer.born",
            &["null", "null", "null", "null", r#""1815-12-10""#, "null", "null"],
            Some(("DATE '1815-12-10'", 4)),
        ),
        doc.case("doc['cost']", &["null", "null", "null", r#""1.00""#, r#""2.50""#, "null", "null"], Some(("2.5", 4))),
    ]);
    let tags = Column {
        definition: "tags STRING[]",
        inputs: &["null", "[]", r#"["red","blue"]"#, r#"[null,"red"]"#],
        ordered: false,
    };
    let items = Column {
        definition: "items STRUCT<sku STRING, qty BIGINT, seen TIMESTAMP[]>[]",
        inputs: &[
            "null",
            "[]",
            r#"[{"sku":"A1","qty":2,"seen":["2024-05-01T12:00"]},null,{"sku":"B2"}]"#,
            r#"[{"sku":"C3","qty":null,"seen":[]},{}]"#,
        ],
        ordered: false,
    };
    let grid =
        Column { definition: "grid BIGINT[][]", inputs: &["null", "[]", "[[1,2],[],null,[null]]"], ordered: false };
    cases.extend([
        tags.case("tags", &["null", "[]", r#"["red","blue"]"#, r#"[null,"red"]"#], None),
        tags.case("tags[2]", &["null", "null", r#""blue""#, r#""red""#], Some(("'red'", 3))),
        tags.case("array_length(tags)", &["null", "0", "2", "2"], Some(("2", 2))),
        items.case(
            "items",
            &[
                "null",
                "[]",
                r#"[{"sku":"A1","qty":2,"seen":["2024-05-01T12:00:00"]},null,{"sku":"B2","qty":null,"seen":null}]"#,
                r#"[{"sku":"C3","qty":null,"seen":[]},{"sku":null,"qty":null,"seen":null}]"#,
            ],
            None,
        ),
        items.case("items[1].sku", &["null", "null", r#""A1""#, r#""C3""#], Some(("'A1'", 2))),
        items.case("items[3]['sku']", &["null", "null", r#""B2""#, "null"], None),
        items.case("items[1].qty", &["null", "null", "2", "null"], Some(("2", 2))),
        items.case("items[1].seen[1]", &["null", "null", r#""2024-05-01T12:00:00""#, "null"], None),
        grid.case("grid", &["null", "[]", "[[1,2],[],null,[null]]"], None),
        grid.case("grid[1][2]", &["null", "null", "2"], Some(("2", 2))),
        of_message("_key", [r#""oslo""#, r#""rome""#, "null", "null"], true, Some(("'oslo'", 0))),
        of_message("_key_bytes", [r#""6f736c6f""#, r#""726f6d65""#, r#""ff00""#, "null"], true, Some(("X'ff00'", 2))),
        of_message(
            "_headers",
            [r#"[{"name":"trace","value":"6f736c6f"},{"name":"empty","value":null}]"#, "null", "null", "null"],
            false,
            None,
        ),
        of_message(
            "CAST(_headers[1].value AS STRING)",
            [r#""oslo""#, "null", "null", "null"],
            true,
            Some(("'oslo'", 0)),
        ),
        of_message("length(CAST(_payload AS STRING)) > 1", ["true"; 4], true, Some(("true", 0))),
    ]);
    cases
}
