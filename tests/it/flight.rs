//! Serving processes over speed workers: the answers are the same as from memory, whatever happens to the workers.
//!
//! Everything except Kafka is real: HTTP, Arrow Flight and the warehouse.
//!
//! Invariant: every answer is exact at its frontier. A worker can make an answer late, never wrong.

mod faults;
pub(crate) mod processes;
mod tls;
mod world;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thalweg_kit::positions::{at, level};
use thalweg_schemas::Partition;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;

use processes::{Server, Worker};
use world::World;

const QUERIES: [&str; 13] = [
    "SELECT * FROM totals",
    "SELECT * FROM busy",
    "SELECT device, minute, readings, mean, peak, amount FROM device_minutes",
    "SELECT device, sum(readings) FROM device_minutes WHERE device = 'd7' GROUP BY device",
    "SELECT device, minute, amount FROM device_minutes WHERE device IN ('d1', 'd2', 'd3', 'd4', 'd5') AND minute >= '2026-01-01T00:01:00'",
    "SELECT count(*) FROM device_minutes WHERE minute BETWEEN '2026-01-01T00:00:00' AND '2026-01-01T00:01:00'",
    "SELECT count(*) FROM device_minutes",
    "SELECT 1 FROM totals",
    "SELECT * FROM batch.busy",
    "SELECT * FROM speed.busy",
    "SELECT * FROM sensor_data",
    "SELECT _partition, count(*), max(_offset) FROM rejects.sensor_data GROUP BY 1",
    "SELECT count(*) FROM sensor_data s JOIN busy b ON s.device = b.device WHERE b.readings > 4",
];

/// Returns the snapshots of three workers that share four partitions and have read them to different offsets.
async fn three_snapshots(world: &World) -> [StreamSnapshot; 3] {
    let cut = level(4, 30);
    [
        world.snapshot(&cut, &at(&[(0, 90), (2, 61)])).await,
        world.snapshot(&cut, &at(&[(1, 77)])).await,
        world.snapshot(&cut, &at(&[(3, 30)])).await,
    ]
}

async fn workers(world: &World) -> [Worker; 3] {
    let [a, b, c] = three_snapshots(world).await;
    [world.worker(a).await, world.worker(b).await, world.worker(c).await]
}

/// Asserts that every query gives the same rows at the same frontier on both servers.
async fn agree(one: &Server, other: &Server) {
    for sql in QUERIES {
        let (expected, found) = (one.sql(sql).await, other.sql(sql).await);
        assert_eq!(found.answer(), expected.answer(), "{sql}");
        assert_eq!(found.partial, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_one_process() {
    let world = World::new(4, 30).await;
    let whole = at(&[(0, 90), (1, 77), (2, 61), (3, 30)]);
    let here = world.here(world.snapshot(&level(4, 30), &whole).await).await;
    let [a, b, c] = workers(&world).await;
    let there = world.over(&[&a, &b, &c]).await;
    agree(&here, &there).await;
    // The archive advances while workers still hold the rows below.
    world.archive(&level(4, 30).max(&at(&[(0, 50)]))).await;
    agree(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_workers_change_nothing() {
    let world = World::new(2, 20).await;
    let cut = level(2, 20);
    let to = at(&[(0, 60), (1, 50)]);
    let here = world.here(world.snapshot(&cut, &to).await).await;
    let reads = world.worker(world.snapshot(&cut, &to).await).await;
    let behind = world.worker(world.snapshot(&cut, &level(2, 40)).await).await;
    let old = world.snapshot(&level(2, 5), &level(2, 10)).await;
    let older = world.worker(old).await;
    let mut gapped = world.snapshot(&cut, &level(2, 70)).await;
    for held in gapped.views.values_mut() {
        let held = std::sync::Arc::make_mut(held);
        held.partitions.values_mut().for_each(|list| drop(list.remove(1)));
    }
    gapped.rows.remove(0);
    let gapped = world.worker(gapped).await;
    let there = world.over(&[&behind, &gapped, &reads, &older]).await;
    agree(&here, &there).await;
    // The worker with the newest data is gone. No answer may be below an earlier one.
    reads.kill().await;
    let reply = there.sql("SELECT * FROM totals").await;
    assert_eq!(reply.code(), (503, "not_held"), "{}", reply.body);
    assert!(reply.message().contains("already answered"), "{}", reply.message());
    behind.shown.show(world.snapshot(&cut, &level(2, 80)).await);
    let (_, frontier) = there.sql("SELECT * FROM totals").await.answer();
    assert_eq!(frontier, json!({"sensor_data": {"0": 80, "1": 80}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_query_needs_is_sent() {
    let world = World::new(2, 20).await;
    let to = level(2, 2000);
    let worker = world.worker(world.snapshot(&level(2, 20), &to).await).await;
    let there = world.over(&[&worker]).await;
    let mut before = 0.0;
    let mut bytes = async |sql: &str| {
        there.sql(sql).await.answer();
        let total = there.metric("thalweg_remote_bytes_total").await.unwrap();
        let sent = total - before;
        before = total;
        sent
    };
    let everything = bytes("SELECT * FROM device_minutes").await;
    let columns = bytes("SELECT device, minute, readings FROM device_minutes").await;
    let group = bytes("SELECT * FROM device_minutes WHERE device = 'd7'").await;
    let some =
        bytes("SELECT * FROM device_minutes WHERE device IN ('d1','d2','d3','d4') AND minute < '2026-01-01T00:01:00'")
            .await;
    let none = bytes("SELECT * FROM batch.device_minutes").await;
    assert!(columns < everything / 3.0, "{columns} of {everything}");
    assert!(group < everything / 3.0, "{group} of {everything}");
    assert!(some < everything / 3.0, "{some} of {everything}");
    assert_eq!(none, 0.0);
    let rows = bytes("SELECT * FROM sensor_data").await;
    let column = bytes("SELECT max(temperature) FROM sensor_data").await;
    assert!(column < rows / 2.0, "{column} of {rows}");

    let plan = there.explain("SELECT readings FROM device_minutes WHERE device = 'd7'").await;
    for part in [
        &format!("workers=[{} (0: 20..2000, 1: 20..2000)]", worker.address),
        "columns=[g0, g1, a0]",
        "sent filters=[g0 In]",
    ] {
        assert!(plan.contains(part), "{part} in\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frontier_is_waited_for() {
    let world = World::new(1, 10).await;
    let cut = level(1, 10);
    let worker = world.worker(world.snapshot(&cut, &level(1, 20)).await).await;
    let there = world.over(&[&worker]).await;
    let header = ("thalweg-min-frontier", r#"{"sensor_data": {"0": 30}}"#);
    let early = there.ask("SELECT * FROM totals", &[header]).await;
    assert_eq!(early.code(), (503, "not_held"), "{}", early.body);
    assert!(early.message().contains("stands at 20, below 30"), "{}", early.message());
    worker.shown.show(world.snapshot(&cut, &level(1, 30)).await);
    let late = there.ask("SELECT * FROM totals", &[header]).await;
    assert_eq!(late.answer().1, json!({"sensor_data": {"0": 30}}));
    let set = "SET thalweg.min_frontier = '{\"sensor_data\": {\"0\": 31}}'; SELECT * FROM totals";
    assert_eq!(there.sql(set).await.code(), (503, "not_held"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_definitions_and_views_are_not_held() {
    let world = World::new(1, 10).await;
    let worker = world.worker(world.snapshot(&level(1, 10), &level(1, 20)).await).await;
    let there = world.over(&[&worker]).await;
    let known = worker.catalog.borrow().clone();
    let mut other = thalweg_schemas::catalog::Catalog::clone(&known);
    other.views.clear();
    worker.catalog.send_replace(std::sync::Arc::new(other.clone()));
    let reply = there.sql("SELECT * FROM totals").await;
    assert_eq!(reply.code(), (503, "not_held"));
    assert!(reply.message().contains("not known there"), "{}", reply.message());
    there.sql("SELECT count(*) FROM sensor_data").await.answer();

    let stream = other.streams.values_mut().next().unwrap();
    std::sync::Arc::make_mut(stream).definition.sql.push(' ');
    worker.catalog.send_replace(std::sync::Arc::new(other));
    let reply = there.sql("SELECT count(*) FROM sensor_data").await;
    assert_eq!(reply.code(), (503, "not_held"));
    assert!(reply.message().contains("another definition"), "{}", reply.message());
    worker.catalog.send_replace(known);
    there.sql("SELECT * FROM totals").await.answer();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_status_tell_who_holds_what() {
    let world = World::new(4, 30).await;
    let [a, b, c] = workers(&world).await;
    let there = world.over(&[&a, &b, &c]).await;
    let (status, body) = there.get("/readyz").await;
    assert_eq!(status, 200, "{body}");
    let streams: Value = serde_json::from_str(&there.get("/v1/streams").await.1).unwrap();
    let shown = &streams["streams"][0];
    assert_eq!(shown["status"], "running", "{streams:#}");
    assert_eq!(shown["partitions"]["1"]["worker"], b.address.as_str());
    assert_eq!(shown["frontier"], json!({"0": 90, "1": 77, "2": 61, "3": 30}));
    assert_eq!(streams["workers"].as_array().unwrap().len(), 3);
    assert_eq!(there.metric("thalweg_partitions_unheld").await, Some(0.0));
    let views: Value = serde_json::from_str(&there.get("/v1/views").await.1).unwrap();
    let views = views["views"].as_array().unwrap();
    assert!(views.iter().all(|v| v["segments"].as_u64().unwrap() > 0), "{views:#?}");

    let gone = b.address.clone();
    b.kill().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    // Worker statuses are cached for a second.
    let body = loop {
        let (status, body) = there.get("/readyz").await;
        if status == 503 {
            break body;
        }
        assert!(Instant::now() < deadline, "{status} {body}");
    };
    assert!(body.contains("partition 1") && body.contains(&gone), "{body}");
    assert_eq!(there.get("/healthz").await.0, 200);
    assert_eq!(there.metric("thalweg_partitions_unheld").await, Some(1.0));
    let up = format!("thalweg_worker_up{{worker=\"{gone}\"}}");
    assert_eq!(there.metric(&up).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audits_compare_what_workers_hold() {
    let world = World::new(4, 30).await;
    let [a, b, c] = workers(&world).await;
    let (_sender, addresses) = tokio::sync::watch::channel([&a, &b, &c].map(|w| w.address.clone()).to_vec());
    let workers = thalweg_serving::Workers::new(addresses, processes::patient());
    // These offsets are above the published cut and below the held frontier, at ends of segments, because no segment
    // spans a mark.
    world.archive(&at(&[(0, 70), (1, 61), (2, 50), (3, 30)])).await;
    let base = &world.sensors.world;
    let (catalog, published) = (base.catalog.borrow().clone(), base.published.borrow().clone());
    let stream = &catalog.streams[&base.stream];
    for view in catalog.compiled() {
        let snapshot = workers.snapshot(stream, std::slice::from_ref(view), &published, world.master()).await.unwrap();
        assert_eq!(snapshot.frontier, at(&[(0, 90), (1, 77), (2, 61), (3, 30)]));
        let held = &snapshot.views[view.plan.id()];
        assert_eq!(held.partitions[&Partition(0)].len(), 3);
        let audit = thalweg_batch::audit::audit_view(&base.warehouse, &catalog, view, &snapshot);
        let report = audit.await.unwrap();
        assert!(report.is_equal(), "{report:#?}");
        assert_eq!(report.parts.len(), 2, "{report:#?}");
    }
    b.kill().await;
    let view = std::sync::Arc::clone(catalog.compiled().next().unwrap());
    let refused = workers.snapshot(stream, &[view], &published, world.master()).await;
    assert_eq!(refused.unwrap_err().code().as_str(), "not_held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_workers_answer_as_one() {
    const WORKERS: i32 = 64;
    let world = World::new(WORKERS, 10).await;
    let (cut, to) = (level(WORKERS, 10), level(WORKERS, 24));
    let here = world.here(world.snapshot(&cut, &to).await).await;
    let mut all = Vec::new();
    for partition in 0..WORKERS {
        let held = world.snapshot(&cut, &at(&[(partition, 24)])).await;
        all.push(world.worker(held).await);
    }
    let there = world.over(&all.iter().collect::<Vec<_>>()).await;
    for sql in ["SELECT * FROM totals", "SELECT device, minute, mean FROM device_minutes"] {
        assert_eq!(there.sql(sql).await.answer(), here.sql(sql).await.answer());
    }
}
