//! The extended protocol: types of placeholders and columns, both formats, portals in parts.

use std::error::Error as StdError;

use ::bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::*;

/// The bytes of a value, whatever its type.
#[derive(Debug, PartialEq)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[tokio::test]
async fn every_type_goes_out_in_both_formats() {
    let server = Server::start().await;
    let client = server.client().await;
    let check = async |sql: &str, name: &str, text: Option<&str>, binary: Option<&str>| {
        let query = format!("SELECT {sql} AS v");
        let statement = client.prepare(&query).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
        assert_eq!(statement.columns()[0].type_().name(), name, "{sql}");
        let row = client.query_one(&statement, &[]).await.unwrap();
        let got = row.get::<_, Option<Raw>>(0).map(|raw| raw.0.iter().map(|b| format!("{b:02x}")).collect::<String>());
        if text.is_none() || binary.is_some() {
            assert_eq!(got, binary.map(|digits| digits.replace(' ', "")), "{sql}");
        }
        assert_eq!(rows(&client, &query).await[0][0].as_deref(), text, "{sql}");
    };
    check("true", "bool", Some("t"), Some("01")).await;
    check("arrow_cast(-7, 'Int8')", "int2", Some("-7"), Some("fff9")).await;
    check("CAST(-7 AS INT)", "int4", Some("-7"), Some("fffffff9")).await;
    check("5", "int8", Some("5"), Some("0000000000000005")).await;
    check("arrow_cast(5, 'UInt64')", "numeric", Some("5"), Some("0001 0000 0000 0000 0005")).await;
    check("CAST(1.5 AS REAL)", "float4", Some("1.5"), Some("3fc00000")).await;
    check("CAST('NaN' AS DOUBLE)", "float8", Some("NaN"), Some("7ff8000000000000")).await;
    check("CAST('-0.50' AS DECIMAL(5, 2))", "numeric", Some("-0.50"), Some("0001 ffff 4000 0002 1388")).await;
    let wide = "CAST('123456789012345678901234567890123456789012.5' AS DECIMAL(50, 1))";
    check(wide, "numeric", Some("123456789012345678901234567890123456789012.5"), None).await;
    check("'ü'", "text", Some("ü"), Some("c3bc")).await;
    check("''", "text", Some(""), Some("")).await;
    check("NULL", "text", None, None).await;
    check("X'00ff'", "bytea", Some("\\x00ff"), Some("00ff")).await;
    check("DATE '0001-01-01'", "date", Some("0001-01-01"), Some("fff4dbf9")).await;
    check("DATE '9999-12-31'", "date", Some("9999-12-31"), Some("002c95d3")).await;
    check("TIME '04:05:06.5'", "time", Some("04:05:06.5"), Some("000000036c9361a0")).await;
    check("TIMESTAMP '2026-01-01 00:00:00.25'", "timestamp", Some("2026-01-01 00:00:00.25"), Some("0002ea470aec3090"))
        .await;
    let zoned = "arrow_cast('2026-01-01T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')";
    check(zoned, "timestamptz", Some("2026-01-01 00:00:00+00"), Some("0002ea470ae86000")).await;
    check("INTERVAL '1 month 2 days 3 hours'", "interval", Some("1 mon 2 days 03:00:00"), None).await;
    check("make_array(1, NULL)", "_int8", Some("{1,NULL}"), None).await;
    check("make_array('a b', 'c')", "_text", Some("{\"a b\",c}"), None).await;
    check("make_array(make_array(1), make_array(2, 3))", "json", Some("[[1],[2,3]]"), None).await;
    check("named_struct('a', 1, 'b', 'x')", "json", Some(r#"{"a":1,"b":"x"}"#), None).await;
    check("map(['k'], [1])", "json", Some(r#"{"k":1}"#), None).await;
}

#[tokio::test]
async fn placeholders_have_types_and_values_in_both_formats() {
    let server = Server::start().await;
    let client = server.client().await;
    let typed =
        client.prepare("SELECT count(*) FROM device_minutes WHERE device = $1 AND readings > $2").await.unwrap();
    assert_eq!(typed.params(), [Type::TEXT, Type::INT8]);
    let counted: i64 = client.query_one(&typed, &[&"d0", &0_i64]).await.unwrap().get(0);
    assert!(counted > 0);
    let none: i64 = client.query_one(&typed, &[&None::<&str>, &0_i64]).await.unwrap().get(0);
    assert_eq!(none, 0);

    // The type, the expression, the bytes that are sent, and the text of the result.
    let check = async |given: Type, sql: &str, digits: &str, expect: &str| {
        let query = format!("SELECT CAST({sql} AS TEXT)");
        let statement = client.prepare_typed(&query, std::slice::from_ref(&given)).await;
        let statement = statement.unwrap_or_else(|error| panic!("{given} {sql}: {}", said(&error)));
        assert_eq!(statement.params(), std::slice::from_ref(&given), "{sql}");
        let digits = digits.replace(' ', "");
        let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        let row = client.query_one(&statement, &[&Raw(bytes.collect())]).await;
        let row = row.unwrap_or_else(|error| panic!("{given} {sql}: {}", said(&error)));
        assert_eq!(row.get::<_, String>(0), expect, "{given} {sql}");
    };
    check(Type::BOOL, "NOT $1", "01", "false").await;
    check(Type::INT2, "$1 + 1", "fff9", "-6").await;
    check(Type::INT4, "$1 + 1", "00000005", "6").await;
    check(Type::INT8, "$1 + 1", "0000000000000005", "6").await;
    check(Type::FLOAT8, "$1 * 2", "3ff8000000000000", "3.0").await;
    check(Type::NUMERIC, "$1", "0003 0001 4000 0004 0001 0929 0258", "-12345.0600").await;
    check(Type::TEXT, "upper($1)", "61", "A").await;
    check(Type::VARCHAR, "$1 || '!'", "61", "a!").await;
    check(Type::DATE, "$1", "00000000", "2000-01-01").await;
    check(Type::TIMESTAMP, "$1", "0000000000000000", "2000-01-01T00:00:00").await;
    check(Type::TIMESTAMPTZ, "$1", "0000000000000000", "2000-01-01T00:00:00Z").await;
    check(Type::BYTEA, "encode($1, 'hex')", "00ff", "00ff").await;
    check(Type::UUID, "$1", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").await;
    check(Type::JSONB, "$1", "01 7b7d", "{}").await;
    let ints = "00000001 00000000 00000014 00000002 00000001 00000008 0000000000000005 00000008 0000000000000006";
    check(Type::INT8_ARRAY, "array_length($1)", ints, "2").await;
    check(Type::INT8_ARRAY, "array_sum($1)", ints, "11.0").await;
}

#[tokio::test]
async fn wrong_values_are_refused_and_the_session_goes_on() {
    let server = Server::start().await;
    let client = server.client().await;
    let statement = client.prepare("SELECT $1 + 1").await.unwrap();
    let error = client.query(&statement, &[&Raw(vec![1, 2])]).await.unwrap_err();
    assert!(said(&error).starts_with("22P02 $1: "), "{}", said(&error));
    let error = client.prepare("SELECT 1; SELECT 2").await.unwrap_err();
    assert!(said(&error).starts_with("42601"), "{}", said(&error));
    let error = client.prepare("SELECT nothing FROM totals").await.unwrap_err();
    assert!(said(&error).starts_with("42703"), "{}", said(&error));
    assert_eq!(client.query_one("SELECT $1 + 1", &[&1_i64]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test]
async fn portals_are_read_in_parts() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let block = client.transaction().await.unwrap();
    let portal = block.bind("SELECT value FROM generate_series(1, 20000)", &[]).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let part = block.query_portal(&portal, 7000).await.unwrap();
        if part.is_empty() {
            break;
        }
        seen.extend(part.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(seen, (1..=20_000).collect::<Vec<i64>>());
    let both = (block.bind("SELECT 1", &[]).await.unwrap(), block.bind("SELECT 2", &[]).await.unwrap());
    assert_eq!(block.query_portal(&both.1, 0).await.unwrap()[0].get::<_, i64>(0), 2);
    assert_eq!(block.query_portal(&both.0, 0).await.unwrap()[0].get::<_, i64>(0), 1);
    block.commit().await.unwrap();
}

#[tokio::test]
async fn a_portal_that_nobody_reads_ends_with_its_time() {
    let server = Server::configured(|config| config.query_timeout = Duration::from_millis(600)).await;
    let mut client = server.client().await;
    let block = client.transaction().await.unwrap();
    let portal = block.bind("SELECT value FROM generate_series(1, 100000000)", &[]).await.unwrap();
    assert_eq!(block.query_portal(&portal, 10).await.unwrap().len(), 10);
    until(|| server.world.sources.metrics.queries().running == 0).await;
    let error = block.query_portal(&portal, 10).await.unwrap_err();
    assert!(said(&error).starts_with("57014"), "{}", said(&error));
}

#[tokio::test]
async fn statements_of_the_session_are_prepared_too() {
    let server = Server::start().await;
    let client = server.client().await;
    for sql in ["BEGIN", "SET extra_float_digits = 3", "COMMIT", "DISCARD PLANS", ""] {
        client.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
    }
    let shown: String = client.query_one("SHOW extra_float_digits", &[]).await.unwrap().get(0);
    assert_eq!(shown, "3");
    let rows = client.query("SELECT pg_advisory_unlock_all()", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let counted = client.execute("SELECT value FROM generate_series(1, 5)", &[]).await.unwrap();
    assert_eq!(counted, 5);
}

#[tokio::test]
async fn no_digit_of_a_number_is_lost_in_a_comparison() {
    let server = Server::start().await;
    let client = server.client().await;
    let rows = "(VALUES (CAST('1.01' AS DECIMAL(10, 2)), 1), (CAST('2.00' AS DECIMAL(10, 2)), 2)) AS t (amount, n)";
    // A binary numeric of the type that the query expects, and the number of rows that fit.
    let check = async |condition: &str, digits: &str, expect: i64| {
        let statement = client.prepare(&format!("SELECT count(*) FROM {rows} WHERE {condition}")).await;
        let statement = statement.unwrap_or_else(|error| panic!("{condition}: {}", said(&error)));
        let digits = digits.replace(' ', "");
        let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        let row = client.query_one(&statement, &[&Raw(bytes.collect())]).await;
        let row = row.unwrap_or_else(|error| panic!("{condition}: {}", said(&error)));
        assert_eq!(row.get::<_, i64>(0), expect, "{condition}");
    };
    // 1.005, which a scale of 2 makes 1.01.
    let close = "0002 0000 0000 0003 0001 0032";
    check("amount = $1", close, 0).await;
    check("amount > $1", close, 2).await;
    check("amount <= $1", close, 0).await;
    check("amount IN ($1)", close, 0).await;
    check("amount NOT IN ($1, 7)", close, 2).await;
    check("amount BETWEEN $1 AND 1.01", close, 1).await;
    check("amount <> $1", close, 2).await;
    // 100000000000, which has no place in the column.
    check("amount < $1", "0003 0002 0000 0000 03e8 0000 0000", 2).await;
    check("amount = $1", "0003 0002 0000 0000 03e8 0000 0000", 0).await;
    // 1.01
    check("amount = $1", "0002 0000 0000 0002 0001 0064", 1).await;
    // 1.01 and 2.
    let array = "00000001 00000000 000006a4 00000002 00000001 0000000c 0002 0000 0000 0002 0001 0064 \
                 0000000a 0001000000000000 0002";
    check("amount = ANY($1)", array, 2).await;
    check("NOT amount = ANY($1)", array, 0).await;
    let words = client
        .query_one("SELECT count(*) FROM (VALUES ('a'), ('b')) AS t (w) WHERE w = ANY($1)", &[&vec!["a", "c"]])
        .await;
    assert_eq!(words.unwrap().get::<_, i64>(0), 1);
    let one = client
        .query_one("SELECT count(*) FROM (SELECT make_array('a', 'b') AS l) AS t WHERE $1 = ANY(l)", &[&"b"])
        .await;
    assert_eq!(one.unwrap().get::<_, i64>(0), 1);
    let typed = async |sql: &str, digits: &[u8]| -> i64 {
        let statement =
            client.prepare_typed(&format!("SELECT count(*) FROM {rows} WHERE {sql}"), &[Type::NUMERIC]).await;
        client.query_one(&statement.unwrap(), &[&Raw(digits.to_vec())]).await.unwrap().get(0)
    };
    // 1.5 and a column of whole numbers.
    let half = [0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88];
    assert_eq!(typed("n = $1", &half).await, 0);
    assert_eq!(typed("n < $1", &half).await, 1);
    assert_eq!(typed("n IN ($1, 2)", &half).await, 1);
}

#[tokio::test]
async fn infinite_times_are_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    for (given, bytes) in [
        (Type::TIMESTAMP, i64::MAX.to_be_bytes().to_vec()),
        (Type::TIMESTAMPTZ, i64::MIN.to_be_bytes().to_vec()),
        (Type::DATE, i32::MIN.to_be_bytes().to_vec()),
    ] {
        let statement = client.prepare_typed("SELECT $1", std::slice::from_ref(&given)).await.unwrap();
        let error = client.query(&statement, &[&Raw(bytes)]).await.unwrap_err();
        assert!(said(&error).contains("infinite times are not supported"), "{given}: {}", said(&error));
    }
}

#[tokio::test]
async fn an_array_that_is_compared_with_oids_is_one_of_oids() {
    let server = Server::start().await;
    let client = server.client().await;
    for (array, expect) in [
        ("$1::oid[]", Type::OID_ARRAY),
        ("($1::pg_catalog.oid[])", Type::OID_ARRAY),
        ("CAST($1 AS oid[])", Type::OID_ARRAY),
        ("$1", Type::OID_ARRAY),
        ("$1::int4[]", Type::INT4_ARRAY),
    ] {
        let sql = format!("SELECT typname FROM pg_type t WHERE t.oid = ANY({array}) ORDER BY 1");
        let statement = client.prepare(&sql).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
        assert_eq!(statement.params(), std::slice::from_ref(&expect), "{sql}");
        let found = match expect {
            Type::OID_ARRAY => client.query(&statement, &[&vec![25_u32, 1009, u32::MAX]]).await,
            _ => client.query(&statement, &[&vec![25, 1009, -1]]).await,
        };
        let found: Vec<String> = found.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(found, ["_text", "text"], "{sql}");
    }
    let statement = client.prepare("SELECT count(*) FROM pg_class WHERE relname <> ALL($1)").await.unwrap();
    assert_eq!(statement.params(), [Type::TEXT_ARRAY]);
    let rest = client.query_one(&statement, &[&vec!["totals"]]).await.unwrap();
    assert!(rest.get::<_, i64>(0) > 0);
}
