//! Workers of one consumer group over a real broker, in one process: joining, leaving, discovery, and the time for
//! which a moving partition has no fresh answers.
//!
//! Invariant: the combined answers of the workers are compared with all produced events.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_kit::positions::level;
use thalweg_schemas::clock::MonotonicClock;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::{Fault, Frontier, Partition};
use thalweg_speed::{Assignment, SpeedConfig, members, run};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::script::Answer;
use super::site::{Site, eventually, finish};
use crate::kafka::{Kafka, Message};

const PARTITIONS: i32 = 4;

/// Produces events, spread over the partitions, and adds them to the answer.
fn produce(kafka: &Kafka, answer: &mut Answer, values: Range<i64>) {
    let messages = values.map(|value| {
        let device = format!("d{}", value % 11);
        let payload = format!(r#"{{"device": "{device}", "value": {value}}}"#);
        let (n, total) = answer.entry(device).or_default();
        *n += 1;
        *total += value;
        Message { partition: (value % i64::from(PARTITIONS)) as i32, timestamp_ms: None, payload }
    });
    kafka.produce("s", messages);
}

struct Member {
    seen: watch::Receiver<Option<Arc<StreamSnapshot>>>,
    cancel: CancellationToken,
    task: JoinHandle<thalweg_speed::Result<()>>,
}

impl Member {
    async fn join(site: &Site, advertise: &str) -> Self {
        let config = SpeedConfig {
            assignment: Assignment::Group { id: None, instance: None, advertise: advertise.to_owned() },
            clock: MonotonicClock::system(),
            kafka: site.config.kafka.clone(),
            ..SpeedConfig::default()
        };
        let mut archive = site.archive().await;
        let (versions, masters) = watch::channel(archive.latest().await.unwrap());
        let (requests, epochs) = mpsc::channel(1);
        let (failure, _unread) = watch::channel(None);
        let token = CancellationToken::new();
        let serving = thalweg_batch::archive::serve(archive, epochs, versions, failure, |_| (), token);
        tokio::spawn(serving);
        let catalog = site.world.catalogs.load().await.unwrap();
        let (snapshots, seen) = watch::channel(None);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(
            config,
            Arc::clone(&catalog.streams[&site.world.stream]),
            site.upstream(requests, masters, snapshots),
            cancel.clone(),
        ));
        Self { seen, cancel, task }
    }

    fn snapshot(&self) -> Option<Arc<StreamSnapshot>> {
        self.seen.borrow().clone()
    }

    /// Returns the partitions that can answer queries: caught up, and tiled from the published cut.
    fn fresh(&self, site: &Site) -> BTreeSet<Partition> {
        let Some(snapshot) = self.snapshot() else {
            return BTreeSet::new();
        };
        let id = site.view.plan.id();
        let Some(held) = snapshot.views.get(id) else {
            return BTreeSet::new();
        };
        let tiles = |p: &Partition| {
            let (from, to) = (site.cut().within([*p]), snapshot.frontier.within([*p]));
            tile(id, held, &from, &to).is_ok()
        };
        snapshot.caught_up_partitions.iter().copied().filter(tiles).collect()
    }

    async fn leave(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn answered(site: &Site, workers: &[&Member], expect: &Answer) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut tiles = Vec::new();
        let mut covered = Frontier::new();
        for snapshot in workers.iter().filter_map(|w| w.snapshot()) {
            let id = site.view.plan.id();
            let from = site.cut().within(snapshot.frontier.partitions());
            if let Some(held) = snapshot.views.get(id)
                && let Ok(found) = tile(id, held, &from, &snapshot.frontier)
            {
                tiles.extend(found);
                covered = covered.max(&snapshot.frontier);
            }
        }
        let got = finish(&site.view, &tiles).await;
        if got == *expect {
            assert_eq!(covered.len(), PARTITIONS as usize);
            return;
        }
        assert!(Instant::now() < deadline, "{got:?} is not {expect:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "what it measures is for people")]
async fn a_group_shares_a_stream_and_every_answer_is_exact() {
    let kafka = Kafka::start();
    kafka.create("s", PARTITIONS).await;
    let origin: Vec<(i32, i64)> = (0..PARTITIONS).map(|p| (p, 0)).collect();
    let site = Site::reading(&kafka.bootstrap, &origin).await;
    site.publish_at_origin("v").await;
    let mut expect = Answer::new();
    produce(&kafka, &mut expect, 0..200_000);
    let stream = site.world.catalogs.load().await.unwrap().streams[&site.world.stream].definition.clone();
    let ask = || {
        let config = SpeedConfig {
            assignment: Assignment::Group { id: None, instance: None, advertise: "reader:1".into() },
            kafka: site.config.kafka.clone(),
            ..SpeedConfig::default()
        };
        tokio::task::block_in_place(|| members(&config, &stream))
    };
    // A broker lists no groups while it loads any of them: when it has just started, and when the first group makes it
    // create the topic of their offsets.
    let found = async || {
        let mut found = Vec::new();
        eventually("the groups to be listed", || match ask() {
            Ok(members) => {
                found = members;
                true
            }
            Err(error) if error.fault() == Fault::Transient => false,
            Err(error) => panic!("{error}"),
        })
        .await;
        found
    };
    assert!(found().await.is_empty());

    let first = Member::join(&site, "first:1").await;
    let count = |member: &Member| member.fresh(&site).len();
    eventually("the first to have all", || count(&first) == 4).await;
    answered(&site, &[&first], &expect).await;
    assert_eq!(found().await, ["first:1"]);

    let began = Instant::now();
    let second = Member::join(&site, "second:2").await;
    eventually("both to have half", || (count(&first), count(&second)) == (2, 2)).await;
    println!("joined: {:?}", began.elapsed());
    assert!(first.fresh(&site).is_disjoint(&second.fresh(&site)));
    assert_eq!(found().await, ["first:1", "second:2"]);
    answered(&site, &[&first, &second], &expect).await;
    produce(&kafka, &mut expect, 200_000..400_000);
    answered(&site, &[&first, &second], &expect).await;
    let master = site.archive().await.latest().await.unwrap();
    assert!(level(PARTITIONS, 50_000).covers(&master.frontier));

    let began = Instant::now();
    second.leave().await;
    println!("archived and left: {:?}", began.elapsed());
    eventually("the first to have all again", || count(&first) == 4).await;
    println!("taken over: {:?}", began.elapsed());
    answered(&site, &[&first], &expect).await;
    produce(&kafka, &mut expect, 400_000..420_000);
    answered(&site, &[&first], &expect).await;
    first.leave().await;
    let master = site.archive().await.latest().await.unwrap();
    assert_eq!(master.mark, master.frontier);
    assert_eq!(master.frontier, level(PARTITIONS, 105_000));
}
