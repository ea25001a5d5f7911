//! Completion at a cursor; the texts mark the cursor with `|`.

use super::*;

fn names() -> CompletionNames {
    let table = |schema: &str, name: &str, columns: &[&str]| Table {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
    };
    let minutes = ["device", "minute", "readings", "order"];
    CompletionNames {
        tables: vec![
            table("public", "sensor_data", &["device", "ts", "temperature"]),
            table("public", "device_minutes", &minutes),
            table("public", "Odd Name", &["X", "y"]),
            table("batch", "device_minutes", &minutes),
            table("rejects", "sensor_data", &["_reject", "_payload"]),
        ],
        functions: ["date_bin", "date_trunc", "max"].map(str::to_owned).into(),
    }
}

/// Checks the text that is replaced, and its possible replacements.
#[track_caller]
fn check(marked: &str, replaced: &str, expect: &[&str]) {
    let at = marked.find('|').unwrap();
    let text = marked.replacen('|', "", 1);
    let found = complete(&text, at, &names());
    let Candidates::Words(words) = found.candidates else { panic!("{marked}: files") };
    assert_eq!(words, expect, "{marked}");
    assert_eq!(&text[found.start..at], replaced, "{marked}");
}

#[test]
fn statements_begin() {
    check("sel|", "sel", &["select"]);
    check("SEL|", "SEL", &["SELECT"]);
    check("Sho|", "Sho", &["show"]);
    let drops = ["drop materialized view", "drop table"];
    check("SELECT 1; dr|", "dr", &drops);
    check("-- x\nwi|", "wi", &["with"]);
    check("\\x\nwi|", "wi", &["with"]);
    check("CREATE M|", "M", &["MATERIALIZED VIEW"]);
    check("sel| 1 \\x", "sel", &["select"]);
    check("DROP |", "", &["MATERIALIZED VIEW", "TABLE"]);
}

#[test]
fn tables_stand_after_from() {
    let all = ["\"Odd Name\"", "batch.", "device_minutes", "rejects.", "sensor_data"];
    check("SELECT * FROM |", "", &all);
    check("SELECT * FROM sen|", "sen", &["sensor_data"]);
    check("SELECT * FROM SEN|", "SEN", &["sensor_data"]);
    check("SELECT * FROM odd|", "odd", &["\"Odd Name\""]);
    check("SELECT * FROM \"Od|", "\"Od", &["\"Odd Name\""]);
    check("SELECT * FROM a, dev|", "dev", &["device_minutes"]);
    check("SELECT * FROM a JOIN dev|", "dev", &["device_minutes"]);
    check("SELECT * FROM batch.|", "", &["device_minutes"]);
    check("SELECT * FROM rejects.s|", "s", &["sensor_data"]);
    check("DROP TABLE IF EXISTS s|", "s", &["sensor_data"]);
    check("SHOW COLUMNS FROM s|", "s", &["sensor_data"]);
    check("SELECT * FROM nowhere.|", "", &[]);
}

#[test]
fn columns_are_those_of_the_tables_read() {
    check("SELECT te| FROM sensor_data", "te", &["temperature"]);
    check("SELECT _p| FROM rejects.sensor_data", "_p", &["_payload"]);
    let all = ["device", "temperature", "ts"];
    check("SELECT | FROM sensor_data", "", &all);
    check("SELECT te| FROM device_minutes", "te", &[]);
    check("SELECT re|", "re", &["readings"]);
    let order = ["\"order\"", "order by"];
    check("SELECT ord| FROM device_minutes", "ord", &order);
    let temperature = ["temperature"];
    check("SELECT * FROM sensor_data WHERE tem|", "tem", &temperature);
    check("SELECT a, devi| FROM sensor_data", "devi", &["device"]);
}

#[test]
fn qualified_columns_follow_names_and_aliases() {
    let readings = ["readings"];
    check("SELECT m.r| FROM batch.device_minutes m", "r", &readings);
    let two = "SELECT m.r| FROM device_minutes AS m, sensor_data s";
    check(two, "r", &readings);
    let joined = "SELECT s.t| FROM device_minutes m JOIN sensor_data s ON true";
    check(joined, "t", &["temperature", "ts"]);
    check("SELECT sensor_data.d|", "d", &["device"]);
    let filtered = "SELECT sensor_data.d| FROM sensor_data WHERE true";
    check(filtered, "d", &["device"]);
    check("SELECT batch.device_minutes.mi|", "mi", &["minute"]);
    check("SELECT x.| FROM sensor_data s", "", &[]);
}

#[test]
fn functions_and_keywords_need_a_letter() {
    check("SELECT date_|", "date_", &["date_bin(", "date_trunc("]);
    check("SELECT MAX| FROM sensor_data", "MAX", &["max("]);
    check("SELECT 1 FROM sensor_data GR|", "GR", &["GROUP BY"]);
    check("SELECT 1 FROM sensor_data GROUP |", "", &["BY"]);
}

#[test]
fn texts_and_comments_are_left_alone() {
    check("SELECT 'sen|", "", &[]);
    check("SELECT 'sen|'", "", &[]);
    check("SELECT * FROM -- sen|", "", &[]);
    check("SELECT * FROM /* sen|", "", &[]);
    check("SELECT * FROM /* x */ sen|", "sen", &["sensor_data"]);
    check("SELECT * FROM -- x\n sen|", "sen", &["sensor_data"]);
}

#[test]
fn commands_complete() {
    check("\\ti|", "\\ti", &["\\timing"]);
    check("SELECT 1; \\wa|", "\\wa", &["\\watch"]);
    check("SELECT 1 \\wa|", "\\wa", &["\\watch"]);
    check("\\d sen|", "sen", &["sensor_data"]);
    check("\\d batch.d|", "d", &["device_minutes"]);
    check("\\d sensor_data x|", "x", &[]);
    check("\\format |", "", &["csv", "json", "table"]);
    check("\\x o|", "o", &["off", "on"]);
    check("\\q |", "", &[]);
    let text = "\\i fil";
    let found = complete(text, text.len(), &names());
    assert_eq!(found.candidates, Candidates::Files);
}

#[test]
fn any_cursor_is_fine() {
    let odd = ["", "é", "SELECT 'é' FROM \"ü", "a.b.c.", "..", "\\", "; ;", "SELECT 1 \\d x\n\\i y", "\"\"."];
    for text in odd {
        for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            let found = complete(text, at, &names());
            let start = found.start;
            assert!(start <= at && text.is_char_boundary(start), "{text}");
        }
    }
}
