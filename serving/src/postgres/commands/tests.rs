//! Which statements are the session's, and what the engine gets.

use super::*;

#[track_caller]
fn check(text: &str, expect: &[(ClientCommand, &str, usize)]) {
    let expect: Vec<ClientStatement> = expect
        .iter()
        .map(|(command, sql, before)| ClientStatement {
            command: command.clone(),
            sql: (*sql).to_owned(),
            before: *before,
        })
        .collect();
    assert_eq!(read(text), expect, "{text}");
}

#[track_caller]
fn one(text: &str, expect: ClientCommand) {
    let read = read(text);
    assert_eq!(read.len(), 1, "{text}");
    assert_eq!(read[0].command, expect, "{text}");
}

fn query() -> ClientCommand {
    ClientCommand::Query { tag: "SELECT" }
}

fn define(tags: &[&str]) -> ClientCommand {
    ClientCommand::Define { tags: tags.iter().map(|&tag| tag.to_owned()).collect() }
}

#[test]
fn texts_are_split_and_definitions_stay_together() {
    check("", &[]);
    check(" ; ;-- nothing\n;", &[]);
    check("SELECT 1", &[(query(), "SELECT 1", 0)]);
    check(" SELECT ';' ; SELECT 2;", &[(query(), "SELECT ';'", 1), (query(), "SELECT 2", 14)]);
    check("SELECT 'ü'; SELECT 2", &[(query(), "SELECT 'ü'", 0), (query(), "SELECT 2", 12)]);
    check(
        "DROP TABLE a; CREATE MATERIALIZED VIEW b AS SELECT 1; SELECT 2; DROP TABLE c",
        &[
            (
                define(&["DROP TABLE", "CREATE MATERIALIZED VIEW"]),
                "DROP TABLE a; CREATE MATERIALIZED VIEW b AS SELECT 1",
                0,
            ),
            (query(), "SELECT 2", 54),
            (define(&["DROP TABLE"]), "DROP TABLE c", 64),
        ],
    );
    check("SELECT 'open", &[(query(), "SELECT 'open", 0)]);
    check("SELECT 1 /* open", &[(query(), "SELECT 1 /* open", 0)]);
}

#[test]
fn definitions_have_the_tags_of_postgresql() {
    for (text, tag) in [
        ("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW"),
        ("create unbounded external table t (a int)", "CREATE EXTERNAL TABLE"),
        ("DROP MATERIALIZED VIEW IF EXISTS v", "DROP MATERIALIZED VIEW"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("COMMENT ON TABLE t IS 'x'", "COMMENT"),
    ] {
        one(text, define(&[tag]));
    }
}

#[test]
fn blocks_and_settings_are_the_sessions() {
    for text in ["BEGIN", "begin transaction read only", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE"] {
        one(text, ClientCommand::Begin);
    }
    for text in ["COMMIT", "END", "commit work"] {
        one(text, ClientCommand::Commit);
    }
    for text in ["ROLLBACK", "ABORT", "rollback work"] {
        one(text, ClientCommand::Rollback);
    }
    one("SAVEPOINT A", ClientCommand::Savepoint("a".into()));
    one("RELEASE SAVEPOINT a", ClientCommand::Release("a".into()));
    one("RELEASE savepoint", ClientCommand::Release("savepoint".into()));
    one("ROLLBACK TO SAVEPOINT \"A\"", ClientCommand::RollbackTo("A".into()));
    one("ROLLBACK WORK TO a", ClientCommand::RollbackTo("a".into()));
    for text in ["SAVEPOINT", "ROLLBACK TO", "ROLLBACK TO a b"] {
        assert!(matches!(read(text)[0].command, ClientCommand::Refuse(_)), "{text}");
    }
    let set = |local: bool, name: &str, value: Option<&str>| ClientCommand::Set {
        local,
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    one("SET extra_float_digits = 3", set(false, "extra_float_digits", Some("3")));
    one("SET SESSION statement_timeout TO '5s'", set(false, "statement_timeout", Some("5s")));
    one("SET LOCAL thalweg.partial = allow", set(true, "thalweg.partial", Some("allow")));
    one("SET search_path TO public, \"X\"", set(false, "search_path", Some("public, X")));
    one("SET search_path TO DEFAULT", set(false, "search_path", None));
    one("SET TIME ZONE 'UTC'", set(false, "TimeZone", Some("UTC")));
    one("SET NAMES 'UTF8'", set(false, "client_encoding", Some("UTF8")));
    one("SET client_encoding = E'UTF8'", set(false, "client_encoding", Some("UTF8")));
    one("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", ClientCommand::Nothing("SET"));
    one("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", ClientCommand::Nothing("SET"));
    one("RESET ALL", ClientCommand::Reset(None));
    one("RESET thalweg.partial", ClientCommand::Reset(Some("thalweg.partial".into())));
    one("SHOW ALL", ClientCommand::Show(None));
    one("SHOW thalweg.frontier", ClientCommand::Show(Some("thalweg.frontier".into())));
    one("show TRANSACTION ISOLATION LEVEL", ClientCommand::Show(Some("transaction_isolation".into())));
    one("DISCARD ALL", ClientCommand::Discard { all: true });
    one("DISCARD PLANS", ClientCommand::Discard { all: false });
    one("UNLISTEN *", ClientCommand::Nothing("UNLISTEN"));
    one("SELECT pg_advisory_unlock_all()", ClientCommand::UnlockAll);
}

#[test]
fn what_the_session_does_not_know_goes_to_the_engine() {
    for text in [
        "SET datafusion.execution.batch_size = 1",
        "SET no_such_setting = 1",
        "COPY readings TO '/tmp/x.csv'",
        "INSERT INTO t VALUES (1)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "PREPARE q",
        "DECLARE c CURSOR",
        "nonsense",
        "SELECT pg_advisory_unlock_all() + 1",
    ] {
        check(text, &[(query(), text, 0)]);
    }
    for text in ["SHOW TABLES", "DESCRIBE readings"] {
        check(text, &[(ClientCommand::Query { tag: "SHOW" }, text, 0)]);
    }
    one("EXPLAIN SELECT 1", ClientCommand::Query { tag: "EXPLAIN" });
}

#[test]
fn statements_within_statements_keep_their_place() {
    let prepare = ClientCommand::Prepare { name: "q".into(), types: vec!["int".into(), "double precision".into()] };
    check("PREPARE q (int, double precision) AS SELECT $1, $2", &[(prepare, "SELECT $1, $2", 37)]);
    check(
        "PREPARE \"Q\" AS SELECT 1",
        &[(ClientCommand::Prepare { name: "Q".into(), types: Vec::new() }, "SELECT 1", 15)],
    );
    let declare = |hold: bool| ClientCommand::Declare { name: "c".into(), hold };
    check("DECLARE c NO SCROLL CURSOR FOR SELECT 1", &[(declare(false), "SELECT 1", 31)]);
    check("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &[(declare(true), "SELECT 1", 31)]);
    check("DECLARE C CURSOR WITHOUT HOLD FOR SELECT 1", &[(declare(false), "SELECT 1", 34)]);
    assert!(matches!(read("DECLARE c SCROLL CURSOR FOR SELECT 1")[0].command, ClientCommand::Refuse(_)));
}

#[test]
fn constants_are_executed() {
    let execute = |values: &[Option<&str>]| ClientCommand::Execute {
        name: "q".into(),
        values: values.iter().map(|value| value.map(str::to_owned)).collect(),
    };
    one("EXECUTE q", execute(&[]));
    one("EXECUTE q ()", execute(&[]));
    one(
        "EXECUTE q (1, -2.5, 'it''s', NULL, true)",
        execute(&[Some("1"), Some("-2.5"), Some("it's"), None, Some("true")]),
    );
    one(
        r"EXECUTE q ($$it's$$, E'a\nb', N'n', U&'\0041', $t$ $t$)",
        execute(&[Some("it's"), Some("a\nb"), Some("n"), Some("A"), Some(" ")]),
    );
    for text in ["now()", "X'1f'", "B'101'", r"E'\xff'", "1 + 1", "1) (2", "1) x --", "1 --"] {
        let command = &read(&format!("EXECUTE q ({text})"))[0].command;
        assert!(matches!(command, ClientCommand::Refuse(_)), "{text}");
    }
    one("DEALLOCATE PREPARE q", ClientCommand::Deallocate(Some("q".into())));
    one("DEALLOCATE ALL", ClientCommand::Deallocate(None));
}

#[test]
fn cursors_move_forward() {
    let fetch = |rows: Option<usize>, moves: bool| ClientCommand::Fetch { name: "c".into(), rows, moves };
    one("FETCH c", fetch(Some(1), false));
    one("FETCH NEXT FROM c", fetch(Some(1), false));
    one("FETCH FORWARD 100 FROM \"c\"", fetch(Some(100), false));
    one("FETCH 5 IN c", fetch(Some(5), false));
    one("FETCH ALL c", fetch(None, false));
    one("MOVE FORWARD ALL FROM c", fetch(None, true));
    for text in ["FETCH PRIOR FROM c", "FETCH -1 FROM c", "FETCH 1 2 FROM c", "FETCH"] {
        assert!(matches!(read(text)[0].command, ClientCommand::Refuse(_)), "{text}");
    }
    one("CLOSE c", ClientCommand::CloseCursor(Some("c".into())));
    one("CLOSE ALL", ClientCommand::CloseCursor(None));
}

#[test]
fn a_copy_from_files_goes_to_the_engine_on_its_own() {
    let define = |tags: &[&str]| ClientCommand::Define { tags: tags.iter().map(|tag| (*tag).to_owned()).collect() };
    one("COPY t FROM '/tmp/x.csv' WITH (FORMAT csv)", define(&["COPY"]));
    check(
        "DROP TABLE a; COPY t FROM 'x'; COPY t FROM 'y'; DROP TABLE b; DROP TABLE c",
        &[
            (define(&["DROP TABLE"]), "DROP TABLE a", 0),
            (define(&["COPY"]), "COPY t FROM 'x'", 14),
            (define(&["COPY"]), "COPY t FROM 'y'", 31),
            (define(&["DROP TABLE", "DROP TABLE"]), "DROP TABLE b; DROP TABLE c", 48),
        ],
    );
}

#[test]
fn copies_have_the_options_of_postgresql() {
    let check = |text: &str, expect: Result<(CopyFormat, u8, &str, bool), &str>| {
        let read = read(text);
        let got = match &read[0].command {
            ClientCommand::Copy(copy) => Ok((copy.format, copy.delimiter, copy.null.as_str(), copy.header)),
            ClientCommand::Refuse(failure) => Err(failure.state),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(got, expect, "{text}");
    };
    use super::super::rows::CopyFormat;
    check("COPY (SELECT 1) TO STDOUT", Ok((CopyFormat::Text, b'\t', "\\N", false)));
    check("COPY t TO STDOUT WITH (FORMAT csv, HEADER)", Ok((CopyFormat::Csv, b',', "", true)));
    check(
        "COPY t TO STDOUT (FORMAT 'csv', HEADER false, DELIMITER ';', NULL '-')",
        Ok((CopyFormat::Csv, b';', "-", false)),
    );
    check("COPY  ( SELECT 1 ) TO STDOUT CSV HEADER DELIMITER AS '|'", Ok((CopyFormat::Csv, b'|', "", true)));
    check("COPY t TO STDOUT BINARY", Ok((CopyFormat::Binary, b'\t', "\\N", false)));
    check("COPY t TO STDOUT (FORMAT binary)", Ok((CopyFormat::Binary, b'\t', "\\N", false)));
    check("COPY t TO STDOUT (DELIMITER E'\\t')", Ok((CopyFormat::Text, b'\t', "\\N", false)));
    check("COPY t TO STDOUT (FORMAT parquet)", Err("22023"));
    check("COPY t TO STDOUT (DELIMITER ';;')", Err("22023"));
    check("COPY t TO STDOUT (FREEZE)", Err("0A000"));
    check("COPY t TO STDOUT (DELIMITER E'\\n')", Err("22023"));
    check("COPY t TO STDOUT (DELIMITER 'ü')", Err("22023"));
    check("COPY t TO STDOUT (DELIMITER '')", Err("22023"));
    check("COPY t TO STDOUT (DELIMITER '\\')", Err("22023"));
    check("COPY t TO STDOUT (DELIMITER 'a')", Err("22023"));
    check("COPY t TO STDOUT (FORMAT csv, DELIMITER 'a')", Ok((CopyFormat::Csv, b'a', "", false)));
    check("COPY t TO STDOUT (DELIMITER '-', NULL 'a-b')", Err("22023"));
    check("COPY t TO STDOUT (NULL E'a\\nb')", Err("22023"));
    check("COPY t TO STDOUT (QUOTE '!')", Err("0A000"));
    check("COPY t TO STDOUT (ESCAPE '!')", Err("0A000"));
    check("COPY t TO STDOUT (FORCE_QUOTE *)", Err("0A000"));
    check("COPY t TO STDOUT (FORMAT csv, QUOTE ',')", Err("22023"));
    check("COPY t TO STDOUT (FORMAT csv, NULL 'a\"b')", Err("22023"));
    check("COPY t TO STDOUT (FORMAT csv, QUOTE '!!')", Err("22023"));
    check("COPY t TO STDOUT (FORMAT csv, HEADER maybe)", Err("42601"));
    check("COPY t TO STDOUT (FORMAT csv, HEADER, HEADER)", Err("42601"));
    check("COPY t TO STDOUT (FORMAT binary, NULL '')", Err("42601"));
    check("COPY t TO STDOUT (FORMAT binary, HEADER)", Err("42601"));
    check("COPY t TO STDOUT (NULL $$-$$)", Ok((CopyFormat::Text, b'\t', "-", false)));
    check("COPY t TO STDOUT ANYHOW", Err("42601"));
    check("COPY t FROM STDIN", Err("0A000"));
    check("COPY t (a, b) FROM PROGRAM 'cat x'", Err("0A000"));
    for (text, sql, asked) in [
        ("COPY (SELECT 'TO', (1)) TO STDOUT", "SELECT 'TO', (1)", "SELECT 'TO', (1)"),
        ("COPY t TO STDOUT", "t", "SELECT * FROM t"),
        ("COPY \"rejects\".t (a, b) TO STDOUT", "\"rejects\".t (a, b)", "SELECT a, b FROM \"rejects\".t "),
        ("COPY (VALUES (1)) TO STDOUT", "VALUES (1)", "VALUES (1)"),
        ("COPY () TO STDOUT", "", "SELECT * FROM "),
    ] {
        let read = read(text);
        assert_eq!(read[0].sql, sql, "{text}");
        assert_eq!(super::query(sql), asked, "{text}");
    }
}
