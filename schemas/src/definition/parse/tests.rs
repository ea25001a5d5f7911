//! Parsing of statements: the resulting definitions and refusals.

use super::*;
use crate::definition::types::sql_name;
use crate::error::{Diagnostic, Place};

/// Describes each statement in one line.
fn show(statement: &Statement) -> String {
    match statement {
        Statement::CreateStream { definition: d, or_replace, if_not_exists } => {
            let columns: Vec<String> = d
                .columns
                .fields()
                .iter()
                .map(|f| {
                    let required = if f.is_nullable() { "" } else { " NOT NULL" };
                    format!("{} {}{required}", f.name(), sql_name(f.data_type()))
                })
                .collect();
            format!(
                "stream {} of {} ({}){}{}{}",
                d.name,
                d.topic,
                columns.join(", "),
                d.event_time.as_ref().map(|c| format!(" by {c}")).unwrap_or_default(),
                if *or_replace { " replace" } else { "" },
                if *if_not_exists { " unless" } else { "" },
            )
        }
        Statement::CreateOpenStream(open) => format!("stream {} of {}, {}", open.name, open.topic, open.format.name()),
        Statement::CreateView { definition: d, or_replace, if_not_exists } => format!(
            "view {} of {}: {}{}{}",
            d.name,
            d.stream,
            d.query,
            if *or_replace { " replace" } else { "" },
            if *if_not_exists { " unless" } else { "" },
        ),
        Statement::AddColumns { stream, columns, if_exists } => {
            let columns: Vec<String> =
                columns.iter().map(|c| format!("{} {}", c.text, if c.if_not_exists { "unless" } else { "" })).collect();
            format!("add to {stream} {}{if_exists}", columns.join(", "))
        }
        Statement::DropStream { name, if_exists } => format!("drop stream {name} {if_exists}"),
        Statement::DropView { name, if_exists } => format!("drop view {name} {if_exists}"),
        Statement::Comment { kind, on, column, text, if_exists } => {
            let column = column.as_ref().map(|column| format!(".{column}")).unwrap_or_default();
            format!("comment {kind:?} {on}{column} {text:?} {if_exists}")
        }
        Statement::CopyFrom(files) => format!("copy {} from {} as {:?}", files.stream, files.from, files.format),
        Statement::Query(sql) => format!("query {sql}"),
    }
}

#[track_caller]
fn check(sql: &str, expect: &[&str]) {
    let found: Vec<String> = match parse(sql) {
        Ok(statements) => statements.iter().map(show).collect(),
        Err(e) => panic!("{sql}: {e}"),
    };
    assert_eq!(found, expect, "{sql}");
}

/// Checks that `sql` is refused with a message that contains `expect`, and not with a parse error.
#[track_caller]
fn refuse(sql: &str, expect: &str) {
    match parse(sql) {
        Err(e @ (Error::RefuseDefinition(_) | Error::CheckName { .. })) => {
            assert!(e.to_string().contains(expect), "{sql}: {e}");
        }
        other => panic!("{sql}: {other:?}"),
    }
}

#[track_caller]
fn fail(sql: &str, line: u64, column: u64, expect: &str) {
    match parse(sql) {
        Err(Error::ParseSql(Diagnostic { message, span, .. })) => {
            assert_eq!(span.map(|span| span.start), Some(Place { line, column }), "{sql}: {message}");
            assert!(message.contains(expect), "{sql}: {message}");
            assert!(!message.contains("Line:"), "{message}");
        }
        other => panic!("{sql}: {other:?}"),
    }
}

/// Checks the columns of a stream declared with `declared`.
#[track_caller]
fn column(declared: &str, expect: &str) {
    let sql = format!("CREATE EXTERNAL TABLE s ({declared}) STORED AS KAFKA LOCATION 't'");
    check(&sql, &[&format!("stream s of t ({expect})")]);
}

#[track_caller]
fn refuse_column(declared: &str, expect: &str) {
    let sql = format!("CREATE EXTERNAL TABLE s ({declared}) STORED AS KAFKA LOCATION 't'");
    refuse(&sql, expect);
}

#[track_caller]
fn refuse_options(options: &str, expect: &str) {
    let sql = format!("CREATE EXTERNAL TABLE s (a INT, ts TIMESTAMP) STORED AS KAFKA LOCATION 't' OPTIONS ({options})");
    refuse(&sql, expect);
}

#[test]
fn a_file_with_everything() {
    let sql = "-- sensors\n\
        CREATE EXTERNAL TABLE Sensor_Data (device STRING NOT NULL, ts TIMESTAMP, temperature DOUBLE)\n\
        STORED AS KAFKA LOCATION 'Sensor.Data' /* the topic */\n\
        OPTIONS ('format' 'json', 'event_time' 'ts', 'kafka.client.rack' 'a;b', kafka.client.id 'u');\n\
        ;;\n\
        CREATE MATERIALIZED VIEW v AS SELECT device, count(*) FROM sensor_data GROUP BY 1; -- that was it\n\
        SELECT ';' FROM v";
    check(
        sql,
        &[
            "stream sensor_data of Sensor.Data (device STRING NOT NULL, ts TIMESTAMP, temperature DOUBLE) by ts",
            "view v of sensor_data: SELECT device, count(*) FROM sensor_data GROUP BY 1",
            "query SELECT ';' FROM v",
        ],
    );
    let statements = parse(sql).unwrap();
    let Statement::CreateStream { definition, .. } = &statements[0] else {
        panic!();
    };
    assert!(definition.sql.starts_with("CREATE EXTERNAL TABLE Sensor_Data ("));
    assert!(definition.sql.ends_with("kafka.client.id 'u')"));
    assert!(definition.sql.contains("/* the topic */"));
    assert_eq!(definition.kafka["client.rack"], "a;b");
    assert_eq!(definition.kafka["client.id"], "u");
    assert_eq!(definition.kafka.len(), 2);
    let Statement::CreateView { definition, .. } = &statements[1] else {
        panic!();
    };
    assert!(definition.sql.starts_with("CREATE MATERIALIZED"));
    assert!(definition.sql.ends_with("GROUP BY 1"));
}

#[test]
fn every_kind_of_statement() {
    check("", &[]);
    check(" ; -- nothing\n;", &[]);
    check(
        "CREATE OR REPLACE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 't'",
        &["stream s of t (a INT) replace"],
    );
    check(
        "CREATE UNBOUNDED EXTERNAL TABLE IF NOT EXISTS s (a INT) LOCATION 't' STORED AS kafka",
        &["stream s of t (a INT) unless"],
    );
    check(
        "CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s",
        &["view v of s: SELECT count(*) AS n FROM s replace"],
    );
    check(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT max(a) FROM s",
        &["view v of s: SELECT max(a) FROM s unless"],
    );
    check(
        "CREATE MATERIALIZED VIEW v AS WITH x AS (SELECT a FROM s WHERE a > 1) SELECT sum(a) FROM x",
        &["view v of s: WITH x AS (SELECT a FROM s WHERE a > 1) SELECT sum(a) FROM x"],
    );
    check("DROP TABLE s", &["drop stream s false"]);
    check("DROP TABLE IF EXISTS a, B RESTRICT", &["drop stream a true", "drop stream b true"]);
    check("DROP VIEW v", &["drop view v false"]);
    check("DROP MATERIALIZED VIEW IF EXISTS v", &["drop view v true"]);
    for query in [
        "SELECT 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "(SELECT 1) UNION ALL SELECT 2",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM v",
        "EXPLAIN FORMAT TREE SELECT 1",
        "SHOW TABLES",
        "SHOW COLUMNS FROM v",
        "SHOW datafusion.execution.batch_size",
        "DESCRIBE v",
    ] {
        check(&format!("\n {query} ;"), &[&format!("query {query}")]);
    }
}

#[test]
fn columns_have_canonical_types() {
    column("a BOOLEAN, b TINYINT, c SMALLINT, d INT", "a BOOLEAN, b TINYINT, c SMALLINT, d INT");
    column("a BIGINT, b REAL, c FLOAT, d DOUBLE", "a BIGINT, b REAL, c REAL, d DOUBLE");
    column("a TINYINT UNSIGNED, b INT UNSIGNED", "a SMALLINT, b BIGINT");
    column("a BIGINT UNSIGNED", "a DECIMAL(20, 0)");
    column("a VARCHAR(10), b TEXT, c CHAR, d STRING", "a STRING, b STRING, c STRING, d STRING");
    column("a BYTEA, b DATE", "a BYTEA, b DATE");
    column("a TIMESTAMP(3), b TIMESTAMP", "a TIMESTAMP, b TIMESTAMP");
    column("a TIMESTAMPTZ", "a TIMESTAMP WITH TIME ZONE");
    column("a TIMESTAMP WITH TIME ZONE", "a TIMESTAMP WITH TIME ZONE");
    column("a DECIMAL(5), b DECIMAL(38,10)", "a DECIMAL(5, 0), b DECIMAL(38, 10)");
    column("a INT[], b ARRAY<STRING>", "a INT[], b STRING[]");
    column("a STRUCT<B INT, c STRUCT<d DATE>>", "a STRUCT<b INT, c STRUCT<d DATE>>");
    column("a STRUCT<b INT, c STRUCT<d DATE>>[]", "a STRUCT<b INT, c STRUCT<d DATE>>[]");
    column("a STRUCT<b STRUCT<c STRUCT<d DATE>>[]>[]", "a STRUCT<b STRUCT<c STRUCT<d DATE>>[]>[]");
    column("a STRUCT<b STRUCT<c STRUCT<d STRUCT<e DATE>>>> [][]", "a STRUCT<b STRUCT<c STRUCT<d STRUCT<e DATE>>>>[][]");
    column("Device INT, \"deviceId\" INT NULL", "device INT, deviceId INT");
    column("a INT NOT NULL,", "a INT NOT NULL");

    refuse_column("a TIME", "Column `a`: Values of type TIME cannot be archived");
    refuse_column("a INTERVAL", "INTERVAL cannot be archived");
    refuse_column("a DECIMAL(50,2)", "Use DECIMAL with at most 38 digits");
    refuse_column("a UUID", "the type UUID is not known");
    refuse_column("a MAP(STRING, INT)", "is not known");
    refuse_column("_a INT", "reserved");
    refuse_column("a INT, \"A\" INT", "declared twice");
    refuse_column("\"a b\" INT", "does not take this name");
    refuse_column("\"\" INT", "does not take this name");
    refuse_column("a STRUCT<b INT, b INT>", "`a.b` is declared twice");
    refuse_column("a INT PRIMARY KEY", "not de-duplicated");
    refuse_column("a INT, PRIMARY KEY (a)", "not de-duplicated");
    refuse_column("a INT UNIQUE", "Only NOT NULL");
    refuse_column("a INT DEFAULT 1", "`DEFAULT 1` is not supported");
    refuse_column("a INT, CHECK (a > 1)", "is not supported");
    refuse_column("", "has no columns");
    let nested = |levels: usize| format!("a {}INT{}", "STRUCT<b ".repeat(levels), ">".repeat(levels));
    refuse_column(&nested(39), "nested too deep");
    let deepest = format!("CREATE EXTERNAL TABLE s ({}) STORED AS KAFKA LOCATION 't'", nested(38));
    assert!(parse(&deepest).is_ok());
}

#[test]
fn streams_that_are_refused() {
    let with = |clause: &str| format!("CREATE EXTERNAL TABLE s (a INT) {clause} LOCATION 't'");
    refuse(&with("STORED AS PARQUET"), "Use STORED AS KAFKA");
    refuse(&with("STORED AS KAFKA PARTITIONED BY (a)"), "PARTITIONED BY");
    refuse(&with("STORED AS KAFKA WITH ORDER (a)"), "WITH ORDER");
    let at = |topic: &str| format!("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION {topic}");
    refuse(&at("'kafka://host/t'"), "brokers go into the settings");
    refuse(&at("''"), "not the name of a Kafka topic");
    refuse(&at("'..'"), "not the name of a Kafka topic");
    refuse(&at(&format!("'{}'", "t".repeat(250))), "not the name of a Kafka topic");
    refuse(&at("('a', 'b')"), "one topic");
    refuse("CREATE EXTERNAL TABLE x.s (a INT) STORED AS KAFKA LOCATION 't'", "plain names");
    refuse("CREATE EXTERNAL TABLE \"S\" (a INT) STORED AS KAFKA LOCATION 't'", "lower-case");
    refuse("CREATE EXTERNAL TABLE batch (a INT) STORED AS KAFKA LOCATION 't'", "reserved");
    refuse("CREATE EXTERNAL TEMPORARY TABLE s (a INT) STORED AS KAFKA LOCATION 't'", "temporary");

    refuse_options(
        "'format' 'xml'",
        "Formats are 'json', one JSON object per message, 'avro', one Avro value, 'protobuf', one Protobuf message, \
         'csv' and 'tsv', one line",
    );
    refuse_options("'format' 'raw'", "has one column, for the payload");
    refuse_options("'fromat' 'json'", "Did you mean 'format'?");
    refuse_options("'event-time' 'ts'", "Did you mean 'event_time'?");
    refuse_options("'bootstrap.servers' 'x'", "Did you mean 'kafka.bootstrap.servers'?");
    refuse_options("'compression' 'x'", "Options are 'format', 'event_time'");
    refuse_options("'timestamp_unit' 'minutes'", "`minutes` is no unit of time");
    refuse_options("'timestamp_unit.b' 'ms'", "`b` has a unit and is not a column");
    refuse_options("'timestamp_unit.a' 'ms'", "`a` has a unit and is not a TIMESTAMP");
    refuse_options("'timestamp_units' 'ms'", "Did you mean 'timestamp_unit'?");
    refuse_options("'keep' 'half'", "`half` is no part of a message");
    refuse_options("'kafka.' 'x'", "There is no option 'kafka.'");
    refuse_options("'format' 'json', 'FORMAT' 'json'", "given twice");
    refuse_options("'kafka.bootstrap.servers' 'evil:9092'", "[connection.x] with bootstrap.servers in the settings");
    refuse_options("kafka.sasl.password hunter2", "A definition cannot set 'kafka.sasl.password'");
    refuse_options("'kafka.client.id' '${file:/etc/hostname}'", "cannot refer");
    refuse_options("'kafka.enable.auto.commit' 'true'", "The platform itself sets");
    refuse_options("'connection' 'E U'", "`E U` is not the name of a connection");
    refuse_options("'connection' ''", "not the name of a connection");
    refuse_options("'event_time' 'a'", "`a` is not a TIMESTAMP");
    refuse_options("'event_time' 'b'", "`b` is not a column");
}

#[test]
fn views_that_are_refused() {
    let view = |rest: &str| format!("CREATE MATERIALIZED VIEW v {rest}");
    refuse("CREATE VIEW v AS SELECT count(*) FROM s", "Use CREATE MATERIALIZED VIEW");
    refuse(&view("(a) AS SELECT count(*) FROM s"), "SELECT … AS name");
    refuse(&view("WITH (x = 1) AS SELECT count(*) FROM s"), "clauses");
    refuse(&view("AS SELECT 1"), "reads no stream");
    refuse(&view("AS SELECT count(*) FROM s JOIN t ON true"), "`s` and `t`");
    refuse(&view("AS SELECT count(*) FROM s WHERE a IN (SELECT a FROM t)"), "`s` and `t`");
    refuse(&view("AS SELECT count(*) FROM batch.s"), "plain name");
    refuse("CREATE OR REPLACE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT count(*) FROM s", "contradict");
    refuse("CREATE MATERIALIZED VIEW a.b AS SELECT count(*) FROM s", "plain names");
    refuse("CREATE MATERIALIZED VIEW speed AS SELECT count(*) FROM s", "reserved");
}

#[test]
fn statements_that_are_refused() {
    refuse("CREATE TABLE t (a INT)", "CREATE EXTERNAL TABLE");
    refuse("CREATE TABLE t AS SELECT 1", "CREATE EXTERNAL TABLE");
    refuse("INSERT INTO s VALUES (1)", "Produce messages");
    refuse("WITH x AS (SELECT 1) INSERT INTO s SELECT * FROM x", "Produce messages");
    refuse("SELECT 1 INTO t", "Produce messages");
    refuse("DELETE FROM s", "never changed");
    refuse("UPDATE s SET a = 1", "never changed");
    refuse("TRUNCATE TABLE s", "never changed");
    refuse("COPY s TO 'x.csv'", "Accept: text/csv");
    refuse("SET datafusion.execution.batch_size = 1", "settings of the server");
    refuse("RESET datafusion.execution.batch_size", "settings of the server");
    refuse("ALTER TABLE s DROP COLUMN b", "CREATE OR REPLACE");
    refuse("ALTER TABLE s ADD COLUMN b INT FIRST", "new ones are the last");
    refuse("ALTER TABLE s ADD COLUMN b INT, RENAME TO t", "CREATE OR REPLACE");
    refuse("ALTER TABLE s ADD COLUMN b INT NOT NULL", "archived rows have no value");
    refuse("ALTER TABLE s ADD COLUMN b INTERVAL", "cannot be archived");
    refuse("ALTER TABLE s ADD COLUMN _offset INT", "_offset");
    refuse("ALTER TABLE x.s ADD COLUMN b INT", "has a schema in front");
    refuse("ALTER VIEW v AS SELECT 1", "CREATE OR REPLACE");
    refuse("BEGIN", "in one request");
    refuse("CREATE SCHEMA x", "CREATE statements");
    refuse("GRANT SELECT ON s TO u", "GRANT statements");
    refuse("DROP TABLE s CASCADE", "CASCADE");
    refuse("DROP SCHEMA x", "DROP SCHEMA is not supported");
    refuse("DROP TABLE a.b", "plain names");
    refuse("EXPLAIN CREATE TABLE t (a INT)", "EXPLAIN SELECT");
    // A refused statement makes the statements before it fail too.
    refuse("SELECT 1; DELETE FROM s", "never changed");
}

#[test]
fn errors_have_a_place_in_the_whole_text() {
    fail("SELEC 1", 1, 1, "found: SELEC");
    fail("SELECT 1;\n\n  SELECT a FROM", 3, 16, "the end of the statement");
    fail("SELECT 'ä'; SELECT )", 1, 20, "found: )");
    fail("SELECT 1;\nSELECT 'open", 2, 8, "Unterminated");
    fail("SELECT 1 2", 1, 10, "end of statement");
    fail("SELECT 1;\nSELECT (1", 2, 10, "the end of the statement");
    fail("\n CREATE EXTERNAL TABLE s (a INT) LOCATION 't'", 2, 2, "STORED AS");
    fail("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA", 1, 1, "LOCATION");
    fail("CREATE EXTERNAL TABLE s (a)", 1, 27, "data type");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let n = 100_000;
    let parens = format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    let arrays = format!("SELECT CAST(1 AS {}INT{})", "ARRAY<".repeat(n), ">".repeat(n));
    let brackets = format!("SELECT CAST(1 AS INT{})", "[]".repeat(n));
    for sql in [parens, arrays, brackets] {
        match parse(&sql) {
            Err(Error::ParseSql(Diagnostic { message, span: Some(_), .. })) => {
                assert!(message.contains("nest deeper"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let not = format!("SELECT {} true", "NOT ".repeat(n));
    assert!(matches!(parse(&not), Err(Error::ParseSql(_))));
}

#[test]
fn comments() {
    check("COMMENT ON TABLE s IS 'it''s'", &["comment Stream s Some(\"it's\") false"]);
    check("COMMENT ON TABLE public.s IS 'a'", &["comment Stream s Some(\"a\") false"]);
    check("COMMENT ON MATERIALIZED VIEW V IS 'a'", &["comment View v Some(\"a\") false"]);
    check("COMMENT ON VIEW v IS NULL", &["comment View v None false"]);
    check("COMMENT ON COLUMN s.\"A\" IS ''", &["comment Either s.A None false"]);
    check("COMMENT ON COLUMN public.s.a IS 'a'", &["comment Either s.a Some(\"a\") false"]);
    check("COMMENT IF EXISTS ON TABLE s IS 'a'", &["comment Stream s Some(\"a\") true"]);
    check("COMMENT ON TABLE public IS 'a'", &["comment Stream public Some(\"a\") false"]);
    refuse("COMMENT ON COLUMN a IS 'a'", "is not the name of");
    refuse("COMMENT ON TABLE rejects.s IS 'a'", "is not the name of");
    refuse("COMMENT ON DATABASE thalweg IS 'a'", "COMMENT ON DATABASE is not supported");
}

#[test]
fn files_are_copied_into_streams() {
    check("COPY s FROM 's3://b/*.parquet'", &["copy s from s3://b/*.parquet as None"]);
    check("copy \"s\" from 'a.csv' with (format CSV, header)", &["copy s from a.csv as Some(\"csv\")"]);
    check(
        "COPY s FROM 'a' (FORMAT ndjson); DROP TABLE s",
        &["copy s from a as Some(\"ndjson\")", "drop stream s false"],
    );
    for (sql, expect) in [
        ("COPY s (a, b) FROM 'x'", "Leave out the list of columns"),
        ("COPY s FROM STDIN", "files that the server reaches"),
        ("COPY s FROM PROGRAM 'cat x'", "files that the server reaches"),
        ("COPY s FROM 'x' WITH (FORMAT orc)", "no files of the format `orc`"),
        ("COPY s FROM 'x' WITH (DELIMITER ';')", "does not know the option"),
        ("COPY s FROM 'x' WITH", "Nothing stands behind WITH"),
        ("COPY s FROM 'x' WITH (FORMAT csv, FORMAT tsv)", "said twice"),
        ("COPY s FROM 'x' WITH (HEADER false)", "does not know the option"),
        ("COPY s FROM 'x' CSV", "stand in brackets"),
        ("COPY a.s FROM 'x'", "schema in front"),
        ("COPY s TO 'x'", "COPY TO writes no files here"),
        ("COPY (SELECT 1 FROM s) TO 'x'", "COPY TO writes no files here"),
    ] {
        refuse(sql, expect);
    }
    for sql in [
        "COPY s FROM",
        "COPY FROM 'x'",
        "COPY s FROM 'x' 'y'",
        "COPY s FROM 'x', 'y'",
        "COPY s FROM 'x' WHERE id > 1000",
        "COPY s FROM 'x' and more",
        "COPY s FROM 'x' (FORMAT csv) (FORMAT csv)",
        "COPY s FROM 'x' WITH (FORMAT csv) WHERE false",
    ] {
        assert!(matches!(parse(sql), Err(Error::ParseSql(_))), "{sql}: {:?}", parse(sql));
    }
}
