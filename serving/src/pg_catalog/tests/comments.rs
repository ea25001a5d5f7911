//! Comments from COMMENT ON to what clients read.

use super::*;

#[tokio::test]
async fn a_comment_is_read_in_every_way() {
    let (world, engine) = platform().await;
    for sql in [
        "SELECT obj_description('sensor_data'::regclass)",
        "SELECT obj_description('public.sensor_data'::regclass, 'pg_class')",
        "SELECT description FROM pg_description WHERE objoid = 'sensor_data'::regclass AND objsubid = 0 \
         AND classoid = 'pg_class'::regclass",
    ] {
        assert_rows(&rows(&engine, sql).await, &[&["What the sensors say"]]);
    }
    let sql = "SELECT col_description('totals'::regclass, 2)";
    assert_rows(&rows(&engine, sql).await, &[&["How many have spoken"]]);
    define(&world, "COMMENT ON TABLE sensor_data IS NULL").await;
    assert_rows(&rows(&engine, "SELECT obj_description('sensor_data'::regclass)").await, &[&["∅"]]);
}

#[tokio::test]
async fn a_client_can_comment() {
    let (world, engine) = platform().await;
    let follower = world.catalog.clone();
    let catalogs = world.sources.shared.catalogs.clone();
    let comment = engine.run("COMMENT ON COLUMN sensor_data.ts IS 'When'", Options::default());
    let follow = async {
        // What was defined before has landed as well.
        while !follower.borrow().comments["sensor_data"].columns.contains_key("ts") {
            catalogs.landed().await;
            follower.send_replace(catalogs.load().await.unwrap());
        }
    };
    let (answered, ()) = tokio::join!(comment, follow);
    let batches: Vec<RecordBatch> = answered.unwrap().batches.try_collect().await.unwrap();
    assert_eq!(cells(&batches)[0][0], "commented on sensor_data.ts");
    let sql = "SELECT description FROM pg_description WHERE description = 'When'";
    assert_rows(&rows(&engine, sql).await, &[&["When"]]);
}
