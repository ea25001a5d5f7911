//! Workers that are killed, silent, refused or disconnected in the middle of an answer.
//!
//! Invariant: the reply is a whole and exact answer, a partial answer that is marked as partial, or a temporary
//! error.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use thalweg_kit::positions::{at, level};
use thalweg_schemas::Fault;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_serving::WorkersConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::processes::patient;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_holds_is_named_or_left_out_on_request() {
    let world = World::new(2, 20).await;
    let cut = level(2, 20);
    let first = world.worker(world.snapshot(&cut, &at(&[(0, 50)])).await).await;
    let second = world.worker(world.snapshot(&cut, &at(&[(1, 40)])).await).await;
    let there = world.over(&[&first, &second]).await;
    there.sql("SELECT * FROM totals").await.answer();
    let address = second.address.clone();
    second.kill().await;

    let reply = there.sql("SELECT * FROM totals").await;
    assert_eq!(reply.code(), (503, "not_held"), "{}", reply.body);
    let message = reply.message();
    assert!(message.contains("partition 1: no worker reads it"), "{message}");
    assert!(message.contains(&address), "{message}");

    // The answer is that of a partition 1 which ends at the cut.
    let left = at(&[(0, 50), (1, 20)]);
    let here = world.here(world.snapshot(&cut, &left).await).await;
    for sql in ["SELECT * FROM totals", "SELECT * FROM busy", "SELECT * FROM sensor_data"] {
        let partial = there.ask(sql, &[("thalweg-partial", "allow")]).await;
        assert_eq!(partial.answer(), here.sql(sql).await.answer(), "{sql}");
        assert_eq!(partial.partial.as_deref(), Some(r#"{"sensor_data":[1]}"#));
        assert_eq!(partial.body["partial"], json!({"sensor_data": [1]}));
    }
    let set = there.sql("SET thalweg.partial = 'allow'; SELECT * FROM totals").await;
    assert_eq!(set.answer().1, json!({"sensor_data": {"0": 50, "1": 20}}));

    // Only the archive has advanced, so rows and views would have two different frontiers.
    world.archive(&at(&[(0, 20), (1, 30)])).await;
    let both = "SELECT count(*) FROM sensor_data, totals";
    let reply = there.ask(both, &[("thalweg-partial", "allow")]).await;
    assert_eq!(reply.code(), (503, "not_held"));
    assert!(reply.message().contains("stand at 20 and 30"), "{}", reply.message());

    // A new worker listens on the same address.
    let held = world.snapshot(&cut, &at(&[(1, 45)])).await;
    let _again = world.worker_with(held, None, None, &address).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reply = there.sql("SELECT * FROM totals").await;
        if reply.status == 200 {
            assert_eq!(reply.answer().1, json!({"sensor_data": {"0": 50, "1": 45}}));
            break;
        }
        assert!(Instant::now() < deadline, "{}", reply.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_stream_says_why() {
    let world = World::new(1, 20).await;
    let worker = world.worker(world.snapshot(&level(1, 20), &level(1, 30)).await).await;
    let there = world.over(&[&worker]).await;
    worker.shown.failure.send_replace(Some("the topic was recreated".into()));
    let asked = Instant::now();
    let reply = there.sql("SELECT * FROM totals").await;
    assert_eq!(reply.code(), (503, "stream_stopped"));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}: nobody waits for a stopped stream", asked.elapsed());
    assert!(reply.message().contains("the topic was recreated"), "{}", reply.message());
    // What the stopped stream holds is still exact at its frontier.
    let stale = "SET thalweg.stale = 'allow'; SELECT * FROM totals";
    let reply = there.sql(stale).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["stale"], true, "{}", reply.body);
    worker.shown.failure.send_replace(None);
    there.sql("SELECT * FROM totals").await.answer();
    assert_eq!(there.sql(stale).await.body.get("stale"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_failed_in_a_worker_says_why_at_once() {
    let world = World::new(1, 20).await;
    let mut held = world.snapshot(&level(1, 20), &level(1, 30)).await;
    let views = world.sensors.world.views();
    let totals = views.iter().find(|view| view.definition.name.as_str() == "totals").unwrap();
    let failure = ViewFailure {
        step: FailedStep::Update,
        fault: Fault::User,
        reason: "Divide by zero error".into(),
        expression: Some("sum(a / b)".into()),
        from: at(&[(0, 25)]),
        to: at(&[(0, 26)]),
        since_ms: 7,
    };
    held.views.remove(totals.plan.id());
    held.failed.insert(totals.plan.id().clone(), Arc::new(failure));
    let worker = world.worker(held).await;
    let there = world.over(&[&worker]).await;
    let asked = Instant::now();
    let reply = there.sql("SELECT * FROM totals").await;
    assert_eq!(reply.code(), (503, "view_failed"));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    for part in ["view `totals`", "offset 25 of partition 0", "sum(a / b)", "Divide by zero"] {
        assert!(reply.message().contains(part), "{}", reply.message());
    }
    there.sql("SELECT * FROM busy").await.answer();
    there.sql("SELECT count(*) FROM sensor_data").await.answer();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_worker_costs_its_time_once() {
    let world = World::new(1, 20).await;
    let worker = world.worker(world.snapshot(&level(1, 20), &level(1, 30)).await).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [worker.address.clone(), silent.local_addr().unwrap().to_string()];
    let ask_within = Duration::from_secs(4);
    let config = WorkersConfig { ask_within, ..WorkersConfig::default() };
    let there = world.there(&addresses, config).await;
    let started = Instant::now();
    there.sql("SELECT * FROM totals").await.answer();
    assert!(started.elapsed() >= ask_within);
    let started = Instant::now();
    for _ in 0..3 {
        there.sql("SELECT * FROM totals").await.answer();
    }
    assert!(started.elapsed() < ask_within, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_refused_by_name() {
    let world = World::new(1, 20).await;
    let held = world.snapshot(&level(1, 20), &level(1, 30)).await;
    let worker = world.worker_with(held, Some("right"), None, "127.0.0.1:0").await;
    for (token, expect) in [(Some("right"), 200), (Some("wrong"), 503), (None, 503)] {
        let config = WorkersConfig { token: token.map(str::to_owned), ..patient() };
        let there = world.there(std::slice::from_ref(&worker.address), config).await;
        let reply = there.sql("SELECT * FROM totals").await;
        assert_eq!(reply.status, expect, "{token:?}: {}", reply.body);
        if expect == 503 {
            assert!(reply.message().contains("cluster_token"), "{}", reply.message());
        }
    }
}

/// Forwards bytes to and from `target` until `budget` is used up. Then every connection breaks.
async fn proxy(target: String, budget: Arc<AtomicI64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (target, budget) = (target.clone(), Arc::clone(&budget));
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(target).await else {
                    return;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut buffer = vec![0; 4096];
                    loop {
                        let read = from_server.read(&mut buffer).await.unwrap_or(0);
                        let left = budget.fetch_sub(read as i64, Ordering::SeqCst);
                        if read == 0 || left < read as i64 {
                            return;
                        }
                        if to_client.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = up => {}
                    () = down => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_is_never_taken_for_whole() {
    let world = World::new(1, 20).await;
    let held = world.snapshot(&level(1, 20), &level(1, 6000)).await;
    let here = world.here(held.clone()).await;
    let worker = world.worker(held).await;
    let budget = Arc::new(AtomicI64::new(i64::MAX));
    let address = proxy(worker.address.clone(), Arc::clone(&budget)).await;
    let there = world.there(&[address], patient()).await;
    for sql in ["SELECT * FROM sensor_data", "SELECT * FROM device_minutes"] {
        let expected = here.sql(sql).await.answer();
        for bytes in [500, 3_000, 20_000, 60_000] {
            budget.store(bytes, Ordering::SeqCst);
            let reply = there.sql(sql).await;
            let passes = ["worker_failed", "not_held"].contains(&reply.code().1);
            assert!(
                (reply.status == 503 && passes) || reply.status == 200 && reply.body.is_string(),
                "{sql} after {bytes} bytes: {} {}",
                reply.status,
                reply.body
            );
            // The answer is whole again once the worker is reachable.
            budget.store(i64::MAX, Ordering::SeqCst);
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let reply = there.sql(sql).await;
                if reply.status == 200 {
                    assert_eq!(reply.answer(), expected, "{sql}");
                    break;
                }
                assert!(Instant::now() < deadline, "{}", reply.body);
            }
        }
    }
}
