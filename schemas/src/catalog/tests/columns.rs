//! Streams that get columns: what may be added, what stays as it is, and what is applied at every start.

use super::*;

fn columns(catalog: &Catalog) -> Vec<String> {
    let definition = &catalog.streams[&stream("s")].definition;
    definition.columns.fields().iter().map(|field| field.name().clone()).collect()
}

#[tokio::test]
async fn columns_are_added_and_views_stay() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    f.archive().await;
    let before = f.promote().await;
    let id = |catalog: &Catalog| catalog.views[&view("v")].serving.as_ref().unwrap().plan.id().clone();
    for (sql, expect, names) in [
        ("ALTER TABLE s ADD COLUMN n BIGINT", "replaced stream s", &["a", "b", "n"][..]),
        ("ALTER TABLE s ADD COLUMN IF NOT EXISTS n INT", "stream s is as it was", &["a", "b", "n"]),
        ("ALTER TABLE IF EXISTS x ADD COLUMN n INT", "there is no stream x", &["a", "b", "n"]),
        ("ALTER TABLE s ADD \"Odd\" STRUCT<x DECIMAL(5, 2)[]>, ADD m DATE", "replaced stream s", &["a", "b", "n", "Odd", "m"]),
        (
            "CREATE OR REPLACE EXTERNAL TABLE s (z INT, a INT, b STRING, n BIGINT, \"Odd\" STRUCT<x DECIMAL(5, 2)[]>, m DATE)
               STORED AS KAFKA LOCATION 't'",
            "replaced stream s",
            &["z", "a", "b", "n", "Odd", "m"],
        ),
    ] {
        assert_eq!(f.apply(sql).await.unwrap(), [expect], "{sql}");
        assert_eq!(columns(&*f.load().await), names, "{sql}");
    }
    let after = f.load().await;
    assert_eq!(id(&after), id(&before), "a view that names no new column stays");
    assert_eq!(sides(&after), (true, false));
    for (sql, part) in [
        ("ALTER TABLE s ADD COLUMN n INT", "has a column `n` already"),
        ("ALTER TABLE s ADD COLUMN k INT, ADD COLUMN k INT", "`k`"),
        ("ALTER TABLE x ADD COLUMN n INT", "does not exist"),
        ("ALTER TABLE v ADD COLUMN n INT", "does not exist"),
        (&STREAM.replace("CREATE", "CREATE OR REPLACE"), "its columns cannot change"),
        (
            "CREATE OR REPLACE EXTERNAL TABLE s (z INT, a INT, b STRING, n BIGINT, \"Odd\" STRUCT<x DECIMAL(5, 2)[]>, m DATE,
               late INT NOT NULL) STORED AS KAFKA LOCATION 't'",
            "`late` of stream `s` is new and NOT NULL",
        ),
    ] {
        let version = f.load().await.version;
        let error = f.apply(sql).await.unwrap_err();
        assert!(error.to_string().contains(part), "{sql}: {error}");
        assert_eq!(f.load().await.version, version);
    }
    let lines = STREAM.replace("'kafka.client.id' '1'", "'format' 'csv'");
    let f = Fixture::with(&[&lines]).await;
    f.archive().await;
    let front = lines.replace("CREATE", "CREATE OR REPLACE").replace("(a INT", "(z INT, a INT");
    f.refused(f.apply(&front).await, "meet its columns by their places");
    assert_eq!(f.apply("ALTER TABLE s ADD COLUMN z INT").await.unwrap(), ["replaced stream s"]);
    assert_eq!(columns(&*f.load().await), ["a", "b", "z"]);
}

#[tokio::test]
async fn a_file_with_its_changes_is_applied_at_every_start() {
    let f = Fixture::with(&[STREAM]).await;
    let again = async |sql: &str| -> Result<Vec<String>> {
        let applied = f.catalogs.apply_again(definition::parse(sql)?).await?;
        Ok(applied.into_iter().map(|a| a.action).collect())
    };
    let file = format!("{STREAM}; ALTER TABLE s ADD COLUMN n BIGINT; {VIEW}");
    assert_eq!(again(&file).await.unwrap(), ["stream s is as it was", "replaced stream s", "created view v"]);
    let stands = ["stream s is as it was", "stream s is as it was", "view v is as it was"];
    assert_eq!(again(&file).await.unwrap(), stands);
    f.archive().await;
    assert_eq!(again(&file).await.unwrap(), stands);
    f.refused(again("ALTER TABLE s ADD COLUMN n INT").await, "has a column `n` already");
    f.refused(again(&STREAM.replace("a INT", "a INT, x INT")).await, "the stream `s` exists already");
    f.refused(again(&STREAM.replace("a INT", "a DATE")).await, "the stream `s` exists already");
}

/// A column that the schema in the definition cannot fill is refused, as when the stream is created with it.
#[tokio::test]
async fn a_column_fits_the_schema_of_the_definition() {
    let f = Fixture::new();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"string"}]}"#;
    let create = format!(
        "CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 's' OPTIONS ('format' 'avro', 'avro.schema' '{schema}')"
    );
    f.apply(&create).await.unwrap();
    f.refused(f.apply("ALTER TABLE s ADD COLUMN b INT").await, "`b`: it is written as string, which no INT takes");
    assert_eq!(f.apply("ALTER TABLE s ADD COLUMN b STRING").await.unwrap(), ["replaced stream s"]);
}
