//! Descriptions that are kept: what they depend on, and when they are made anew.

use super::*;
use crate::fixture::at;
use crate::options::SourceLayer;
use crate::parameters::{Declared, Parameter};

async fn standing() -> (World, Arc<Engine>) {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let engine = engine(&world);
    (world, engine)
}

/// Applies definitions, and shows the catalog that follows.
async fn define(world: &World, engine: &Arc<Engine>, sql: &str) {
    rows(engine, sql).await;
    world.catalog.send_replace(world.sources.shared.catalogs.load().await.unwrap());
}

async fn columns(engine: &Arc<Engine>, sql: &str, options: Options) -> Result<Vec<String>> {
    let described = engine.describe(sql, Declared::new(), options).await?;
    let columns = described.columns.clone().unwrap();
    Ok(columns.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect())
}

fn stream(columns: &str) -> String {
    format!("CREATE EXTERNAL TABLE other ({columns}) STORED AS KAFKA LOCATION 'other' OPTIONS ('format' 'json')")
}

#[tokio::test]
async fn a_text_is_described_once() {
    let (_world, engine) = standing().await;
    let describe = async |sql: &str| engine.describe(sql, Declared::new(), Options::default()).await.unwrap();
    for sql in ["SELECT device, $1 FROM device_minutes", "SELECT 1", "SELECT * FROM thalweg.streams", "DROP VIEW x"] {
        assert!(Arc::ptr_eq(&describe(sql).await, &describe(sql).await), "{sql}");
    }
    // Doors that count placeholders and doors that do not share what is known.
    let sql = "SELECT device, $1 FROM device_minutes";
    let counted = engine.describe(sql, vec![None], Options::default()).await.unwrap();
    assert!(Arc::ptr_eq(&counted, &describe(sql).await));
    // Values do not change what is described, and an answer has the columns that were described.
    for value in ["a", "b"] {
        let values = vec![Parameter::Text(value.to_owned())];
        let sql = "SELECT device, $1 FROM device_minutes";
        let answer = engine.run_with(sql, values, Options::default()).await.unwrap();
        let types = |schema: &SchemaRef| -> Vec<_> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        assert_eq!(types(&answer.schema), types(describe(sql).await.columns.as_ref().unwrap()));
    }
}

#[tokio::test]
async fn changed_definitions_are_never_described_with_their_old_columns() {
    let (world, engine) = standing().await;
    let sql = "SELECT * FROM other";
    let described = async || columns(&engine, sql, Options::default()).await;
    assert_eq!(described().await.unwrap_err().code().as_str(), "invalid_query");
    define(&world, &engine, &stream("a BIGINT")).await;
    let one = described().await.unwrap();
    assert!(one.contains(&"a Int64".to_owned()), "{one:?}");
    define(&world, &engine, "DROP TABLE other").await;
    assert_eq!(described().await.unwrap_err().code().as_str(), "invalid_query");
    define(&world, &engine, &stream("a STRING, b DOUBLE")).await;
    let two = described().await.unwrap();
    assert!(two.contains(&"a Utf8".to_owned()) && two.contains(&"b Float64".to_owned()), "{two:?}");
}

#[tokio::test]
async fn a_replaced_view_is_described_anew_once_it_serves() {
    let (world, engine) = standing().await;
    let sql = "SELECT * FROM totals";
    let described = async || columns(&engine, sql, Options::default()).await.unwrap();
    let before = described().await;
    let replaced = "CREATE OR REPLACE MATERIALIZED VIEW totals AS SELECT max(temperature) AS peak FROM sensor_data";
    define(&world, &engine, replaced).await;
    assert_eq!(described().await, before);
    let view = thalweg_schemas::ViewName::new("totals").unwrap();
    let id = world.catalog.borrow().views[&view].building.as_ref().unwrap().plan.id().clone();
    let catalogs = &world.sources.shared.catalogs;
    catalogs.promote(&view, &id).await.unwrap();
    world.catalog.send_replace(catalogs.load().await.unwrap());
    assert_eq!(described().await, ["peak Float64"]);
}

#[tokio::test]
async fn a_layer_is_described_apart() {
    let (_world, engine) = standing().await;
    let of = |source| Options { source, ..Options::default() };
    let views = "SELECT * FROM totals";
    for source in [SourceLayer::Merged, SourceLayer::Batch, SourceLayer::Speed] {
        assert!(columns(&engine, views, of(source)).await.is_ok());
    }
    // A stream has no layers, whoever has asked before and however.
    let stream = "SELECT * FROM sensor_data";
    for _ in 0..2 {
        assert!(columns(&engine, stream, of(SourceLayer::Merged)).await.is_ok());
        let refused = columns(&engine, stream, of(SourceLayer::Batch)).await.unwrap_err();
        assert!(refused.to_string().contains("is a stream"), "{refused}");
        let refused = columns(&engine, &format!("SET thalweg.source = batch; {stream}"), of(SourceLayer::Merged)).await;
        assert!(refused.unwrap_err().to_string().contains("is a stream"));
    }
}

#[tokio::test]
async fn what_was_refused_is_refused_again_and_may_be_right_later() {
    let (world, engine) = standing().await;
    for _ in 0..2 {
        for sql in ["SELECT nothing FROM totals", "SELECT", "CREATE TABLE x (a INT)", "SELECT $x"] {
            assert!(columns(&engine, sql, Options::default()).await.is_err(), "{sql}");
        }
    }
    define(&world, &engine, "CREATE MATERIALIZED VIEW soon AS SELECT count(*) AS n FROM sensor_data").await;
    let soon = async || columns(&engine, "SELECT * FROM soon", Options::default()).await;
    for _ in 0..2 {
        assert_eq!(soon().await.unwrap_err().code().as_str(), "not_ready");
    }
    let view = thalweg_schemas::ViewName::new("soon").unwrap();
    let id = world.catalog.borrow().views[&view].building.as_ref().unwrap().plan.id().clone();
    let catalogs = &world.sources.shared.catalogs;
    catalogs.promote(&view, &id).await.unwrap();
    world.catalog.send_replace(catalogs.load().await.unwrap());
    assert_eq!(soon().await.unwrap(), ["n Int64"]);
}
