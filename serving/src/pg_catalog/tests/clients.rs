//! Every file of `tests/catalog`, and the answers that matter most.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// The most rows of an expected answer. The others are counted.
const SHOWN: usize = 40;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/catalog")
}

fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for client in fs::read_dir(folder()).unwrap() {
        let queries = fs::read_dir(client.unwrap().path()).unwrap().map(|entry| entry.unwrap().path());
        files.extend(queries.filter(|path| path.extension().is_some_and(|ending| ending == "sql")));
    }
    files.sort();
    files
}

/// The statement of a file, and the values of its parameters: `-- $1 = 'text'`.
fn read(path: &Path) -> (String, Vec<Parameter>) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("-- "), "{}: the first line names the source", path.display());
    let mut values = Vec::new();
    for line in text.lines() {
        if let Some((_, value)) = line.strip_prefix("-- $").and_then(|line| line.split_once(" = ")) {
            values.push(match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
                Some(text) => Parameter::Text(text.replace("''", "'")),
                None => Parameter::Null,
            });
        }
    }
    let sql: Vec<&str> = text.lines().skip(1 + values.len()).collect();
    (sql.join("\n"), values)
}

/// The answer as text: the columns and their types, then the rows.
fn show(batches: &[RecordBatch]) -> String {
    let fields = batches[0].schema();
    let columns: Vec<String> =
        fields.fields().iter().map(|field| format!("{}:{}", field.name(), field.data_type())).collect();
    let rows = cells(batches);
    let mut lines = vec![columns.join(" | ")];
    lines.extend(rows.iter().take(SHOWN).map(|row| row.join(" | ")));
    if rows.len() > SHOWN {
        lines.push(format!("… {} rows", rows.len()));
    }
    lines.join("\n") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_a_client_is_answered() {
    let (_world, engine) = platform().await;
    let oid = |rows: Vec<Vec<String>>| rows[0][0].clone();
    let stream = oid(rows(&engine, "SELECT 'sensor_data'::regclass::oid").await);
    let view = oid(rows(&engine, "SELECT 'totals'::regclass::oid").await);
    let update = std::env::var_os("CATALOG_UPDATE").is_some();
    let mut wrong = Vec::new();
    for path in files() {
        let (sql, values) = read(&path);
        let name = path.strip_prefix(folder()).unwrap().display().to_string();
        let here = |text: &str| text.replace("@sensor_data@", &stream).replace("@totals@", &view);
        let values = values.into_iter().map(|value| match value {
            Parameter::Text(text) => Parameter::Text(here(&text)),
            value => value,
        });
        let found = match answer(&engine, &here(&sql), values.collect()).await {
            Ok(batches) => show(&batches),
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let found = found.replace(&std::process::id().to_string(), "PID");
        let expected = path.with_extension("expect");
        if update {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{name}:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn an_answer_is_described_as_it_is() {
    let (_world, engine) = platform().await;
    for path in files() {
        let (sql, values) = read(&path);
        let sql = sql.replace("@sensor_data@", "1").replace("@totals@", "1");
        let described = engine.describe(&sql, vec![None; values.len()], Options::default()).await;
        let described = described.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let answered = answer(&engine, &sql, values).await;
        // Names that are oids here are none in the text.
        let Ok(answered) = answered else { continue };
        let types = |schema: &arrow::datatypes::Schema| -> Vec<(String, String)> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
        };
        let columns = described.columns.clone().unwrap();
        assert_eq!(types(&columns), types(&answered[0].schema()), "{}", path.display());
    }
}

#[tokio::test]
async fn psql_lists_streams_and_views() {
    let (_world, engine) = platform().await;
    let list = |kinds: &str| {
        format!(
            "SELECT n.nspname, c.relname, pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ({kinds}) \
             AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' ORDER BY 1, 2"
        )
    };
    let tables = rows(&engine, &list("'r'")).await;
    assert_rows(&tables, &[&["public", "sensor_data", "What the sensors say"], &["rejects", "sensor_data", "∅"]]);
    let views = rows(&engine, &list("'m'")).await;
    assert!(views.contains(&["public", "totals", "One row of sums"].map(str::to_owned).to_vec()), "{views:?}");
    assert!(views.iter().all(|row| row[0] == "public"), "{views:?}");
    let sides = rows(&engine, &list("'v'")).await;
    assert_eq!(sides.len(), 2 * views.len(), "{sides:?}");
}

#[tokio::test]
async fn columns_have_the_types_of_postgres() {
    let (_world, engine) = platform().await;
    let sql = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
               pg_catalog.col_description(a.attrelid, a.attnum) FROM pg_attribute a \
               WHERE a.attrelid = 'public.sensor_data'::regclass AND a.attnum > 0 ORDER BY a.attnum";
    let columns = rows(&engine, sql).await;
    assert_eq!(columns[0], ["device", "text", &columns[0][2].clone(), "Its name"]);
    let types: Vec<&str> = columns.iter().map(|row| row[1].as_str()).collect();
    assert!(types.contains(&"timestamp without time zone") && types.contains(&"double precision"), "{types:?}");
    let last: Vec<&str> = columns[columns.len() - 3..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(last, ["_partition", "_offset", "_timestamp"]);
    let sql = "SELECT column_name, data_type, udt_name, is_nullable FROM information_schema.columns \
               WHERE table_schema = 'public' AND table_name = 'totals' ORDER BY ordinal_position";
    assert_rows(
        &rows(&engine, sql).await[..2],
        &[&["readings", "bigint", "int8", "NO"], &["devices", "bigint", "int8", "NO"]],
    );
}

#[tokio::test]
async fn all_joins_hold() {
    let (_world, engine) = platform().await;
    for (what, sql) in [
        ("one oid, one relation", "SELECT oid FROM pg_class GROUP BY oid HAVING count(*) > 1"),
        ("one name, one relation", "SELECT relname FROM pg_class GROUP BY relname, relnamespace HAVING count(*) > 1"),
        ("schemas", "SELECT 1 FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace)"),
        ("owners", "SELECT 1 FROM pg_class WHERE relowner NOT IN (SELECT oid FROM pg_roles)"),
        ("relations of columns", "SELECT 1 FROM pg_attribute WHERE attrelid NOT IN (SELECT oid FROM pg_class)"),
        ("types of columns", "SELECT attname FROM pg_attribute WHERE atttypid NOT IN (SELECT oid FROM pg_type)"),
        ("one number, one column", "SELECT 1 FROM pg_attribute GROUP BY attrelid, attnum HAVING count(*) > 1"),
        (
            "as many columns as the relation says",
            "SELECT c.relname FROM pg_class c JOIN (SELECT attrelid, count(*) AS n FROM pg_attribute GROUP BY 1) a \
             ON a.attrelid = c.oid WHERE c.relnatts <> a.n",
        ),
        (
            "both catalogs",
            "SELECT t.table_name FROM information_schema.tables t LEFT JOIN pg_class c ON c.relname = t.table_name \
             WHERE c.oid IS NULL",
        ),
        ("schemas of types", "SELECT 1 FROM pg_type WHERE typnamespace NOT IN (SELECT oid FROM pg_namespace)"),
        ("types of functions", "SELECT 1 FROM pg_proc WHERE prorettype NOT IN (SELECT oid FROM pg_type)"),
        ("comments", "SELECT 1 FROM pg_description WHERE classoid = 1259 AND objoid NOT IN (SELECT oid FROM pg_class)"),
    ] {
        assert_eq!(rows(&engine, sql).await, Vec::<Vec<String>>::new(), "{what}");
    }
}

#[tokio::test]
async fn an_oid_is_the_same_for_every_process() {
    let (_world, first) = platform().await;
    let (world, second) = platform().await;
    let sql = "SELECT relname, oid FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let before = rows(&first, sql).await;
    assert_eq!(before, rows(&second, sql).await);
    define(&world, "CREATE EXTERNAL TABLE another (a INT) STORED AS KAFKA LOCATION 'a' OPTIONS ('format' 'json')")
        .await;
    let after = rows(&second, sql).await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|row| after.contains(row)), "{after:?}");
}

#[tokio::test]
async fn every_table_of_postgres_can_be_read() {
    let (_world, engine) = platform().await;
    let sql = "SELECT table_schema || '.' || table_name FROM information_schema.tables \
               WHERE table_schema IN ('pg_catalog', 'information_schema')";
    let tables = rows(&engine, sql).await;
    assert!(tables.len() > 200);
    for table in tables {
        rows(&engine, &format!("SELECT * FROM {}", table[0])).await;
    }
}
