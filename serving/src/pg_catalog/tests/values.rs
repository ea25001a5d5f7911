//! Values that PostgreSQL's catalog queries ask for, and its casts and patterns over every query.

use super::*;

#[tokio::test]
async fn a_subquery_has_the_value_of_postgresql_or_is_refused() {
    let (_world, engine) = platform().await;
    let check = async |sql: &str, expect: Option<&str>| {
        let sql = format!("SELECT CAST(({sql}) AS TEXT) FROM pg_class AS c WHERE c.oid = 'totals'::regclass");
        match (Box::pin(answer(&engine, &sql, Vec::new())).await, expect) {
            (Ok(batches), Some(expect)) => assert_eq!(cells(&batches), [[expect]], "{sql}"),
            (Err(_), None) => {}
            (found, _) => panic!("{sql}: {found:?}"),
        }
    };
    let of_class = "FROM pg_attribute AS a WHERE a.attrelid = c.oid";
    check(&format!("SELECT attname {of_class} AND attnum = 2"), Some("devices")).await;
    check(&format!("SELECT attname {of_class} ORDER BY attnum LIMIT 1"), Some("readings")).await;
    check(&format!("SELECT attname {of_class} ORDER BY attnum DESC LIMIT 1"), Some("mean")).await;
    check(&format!("SELECT a.attname AS n {of_class} ORDER BY n LIMIT 1"), Some("devices")).await;
    check(&format!("SELECT a.attname {of_class} ORDER BY 1 DESC FETCH FIRST 1 ROW ONLY"), Some("readings")).await;
    check(&format!("SELECT attname {of_class} ORDER BY attnum LIMIT 0"), Some("∅")).await;
    check(&format!("SELECT attname {of_class} ORDER BY attnum LIMIT 1 OFFSET 0"), Some("readings")).await;
    check(&format!("SELECT attname {of_class} ORDER BY attnum LIMIT 1 OFFSET 1"), None).await;
    check(&format!("SELECT count(*) {of_class} AND attnum < 3"), Some("2")).await;
    check("SELECT nspname FROM pg_namespace ORDER BY nspname LIMIT 1", Some("batch")).await;
    let names = format!("ARRAY(SELECT attname {of_class} AND attnum < 4 ORDER BY attnum DESC)");
    let sql = format!("SELECT array_to_string({names}, ',') FROM pg_class AS c WHERE c.oid = 'totals'::regclass");
    assert_eq!(rows(&engine, &sql).await, [["mean,devices,readings"]]);
}

#[tokio::test]
async fn a_union_with_an_empty_table_has_each_row_once() {
    let (_world, engine) = platform().await;
    let check = async |sql: &str, expect: usize| assert_eq!(rows(&engine, sql).await.len(), expect, "{sql}");
    let (some, none) = ("SELECT relkind FROM pg_class WHERE relkind = 'r'", "SELECT contype FROM pg_constraint");
    let all = rows(&engine, some).await.len();
    assert!(all > 1);
    check(&format!("{some} UNION {none}"), 1).await;
    check(&format!("{none} UNION {some}"), 1).await;
    check(&format!("{some} UNION DISTINCT {none}"), 1).await;
    check(&format!("{some} UNION ALL {none}"), all).await;
    check(&format!("({some} UNION ALL {some}) UNION {none} UNION {none}"), 1).await;
    check(&format!("{some} UNION ALL {some} UNION ALL {none}"), 2 * all).await;
    check(&format!("{some} EXCEPT {none}"), 1).await;
}

#[tokio::test]
async fn patterns_and_casts_are_those_of_postgresql() {
    let (_world, engine) = platform().await;
    let check = async |sql: &str, expect: Result<&str, &str>| {
        let found = Box::pin(answer(&engine, &format!("SELECT {sql} AS v"), Vec::new())).await;
        let found = found.map(|found| cells(&found));
        match (found, expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, [[expect]], "{sql}"),
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{sql}: {error}"),
            (found, expect) => panic!("{sql}: {found:?}, not {expect:?}"),
        }
    };
    check("'a/b' LIKE 'a//b' ESCAPE '/'", Ok("true")).await;
    check("'a//b' LIKE 'a//b' ESCAPE '/'", Ok("false")).await;
    check("'a%b' LIKE 'a/%b' ESCAPE '/'", Ok("true")).await;
    check("'axb' LIKE 'a/%b' ESCAPE '/'", Ok("false")).await;
    check("'a_b' NOT LIKE 'a/_b' ESCAPE '/'", Ok("false")).await;
    check(r"'a\b' LIKE 'a\b' ESCAPE '/'", Ok("true")).await;
    check(r"'a\xb' LIKE 'a\%b' ESCAPE '/'", Ok("true")).await;
    check(r"'a%b' LIKE 'a\%b' ESCAPE '/'", Ok("false")).await;
    check("'A_B' ILIKE 'a!_b' ESCAPE '!'", Ok("true")).await;
    check("'AxB' ILIKE 'a!_b' ESCAPE '!'", Ok("false")).await;
    check(r"'a\xb' LIKE 'a\_b' ESCAPE ''", Ok("true")).await;
    check("'a' LIKE 'a/' ESCAPE '/'", Err("must not end with escape")).await;
    check("'a' LIKE 'a' ESCAPE '//'", Err("escape")).await;
    check("(SELECT bool_and(p LIKE p || '!!' ESCAPE '!') FROM (VALUES ('a'), ('b')) AS t (p))", Ok("false")).await;
    check("(SELECT bool_and(p || '!' LIKE p || '!!' ESCAPE '!') FROM (VALUES ('a'), ('b')) AS t (p))", Ok("true"))
        .await;
    check("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", Ok("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")).await;
    check("'abc'::uuid", Err("invalid input syntax for type uuid")).await;
    check("CAST(NULL AS uuid)", Ok("∅")).await;
    check("'{\"a\": 1}'::jsonb", Ok("{\"a\": 1}")).await;
    check("'{'::jsonb", Err("invalid input syntax for type json")).await;
    check("'{'::json", Err("invalid input syntax for type json")).await;
    check("format('%2$s, %1$s', 'a', 'b')", Ok("b, a")).await;
    check("format('%s')", Err("too few arguments")).await;
    let sql = "SELECT x::uuid, '1'::json FROM (SELECT NULL AS x) AS t";
    let named = Box::pin(answer(&engine, sql, Vec::new())).await.unwrap();
    let named: Vec<String> = named[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(named, ["x", "json"]);
}
