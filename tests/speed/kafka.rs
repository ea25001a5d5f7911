//! Workers of one consumer group over a real broker, in one process: joining, leaving, being found, and how long a
//! partition that moves goes without fresh answers.
//!
//! Starts a broker by `infra/kafka/up`, which needs Java. Invariant: the workers' answers together are compared with
//! everything that was produced.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_schemas::clock::MonotonicClock;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::{Frontier, Partition};
use thalweg_speed::{Assignment, SpeedConfig, members, run};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::script::Answer;
use crate::site::{Site, at, eventually, finish};

const PARTITIONS: i32 = 4;

struct Broker {
    folder: tempfile::TempDir,
    bootstrap: String,
}

fn script(name: &str, folder: &Path) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/kafka").join(name);
    let done = Command::new(file).arg("--dir").arg(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

impl Broker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bootstrap = script("up", folder.path());
        let client = ClientConfig::new().set("bootstrap.servers", &bootstrap).clone();
        let admin: AdminClient<_> = client.create().unwrap();
        let topic = NewTopic::new("s", PARTITIONS, TopicReplication::Fixed(1));
        let created = admin.create_topics([&topic], &AdminOptions::new()).await;
        assert!(created.unwrap().iter().all(Result::is_ok));
        Self { folder, bootstrap }
    }

    /// Spreads events over the partitions, and gives the answer over them.
    fn produce(&self, answer: &mut Answer, values: std::ops::Range<i64>) {
        let client = ClientConfig::new().set("bootstrap.servers", &self.bootstrap).clone();
        let producer: BaseProducer = client.create().unwrap();
        for value in values {
            let device = format!("d{}", value % 11);
            let text = format!(r#"{{"device": "{device}", "value": {value}}}"#);
            let partition = (value % i64::from(PARTITIONS)) as i32;
            let mut record = BaseRecord::<(), _>::to("s").partition(partition).payload(&text);
            while let Err((_, refused)) = producer.send(record) {
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
            let (n, total) = answer.entry(device).or_default();
            *n += 1;
            *total += value;
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        script("down", self.folder.path());
    }
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
            ..SpeedConfig::default()
        };
        let mut archive = site.archive().await;
        let (versions, masters) = watch::channel(archive.latest().await.unwrap());
        let (requests, epochs) = mpsc::channel(1);
        let (failure, _unread) = watch::channel(None);
        let token = CancellationToken::new();
        let serving = thalweg_batch::archive::serve(archive, epochs, versions, failure, |_| (), token);
        tokio::spawn(serving);
        let catalog = site.catalogs.load().await.unwrap();
        let (snapshots, seen) = watch::channel(None);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(
            config,
            Arc::clone(&catalog.streams[&site.name]),
            site.upstream(requests, masters, snapshots),
            cancel.clone(),
        ));
        Self { seen, cancel, task }
    }

    fn snapshot(&self) -> Option<Arc<StreamSnapshot>> {
        self.seen.borrow().clone()
    }

    /// Partitions that can be answered from: caught up, and tiled from the published cut.
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
    let broker = Broker::start().await;
    let origin: Vec<(i32, i64)> = (0..PARTITIONS).map(|p| (p, 0)).collect();
    let site = Site::reading(&broker.bootstrap, &origin).await;
    site.publish_at_origin("v").await;
    let mut expect = Answer::new();
    broker.produce(&mut expect, 0..200_000);
    let stream = site.catalogs.load().await.unwrap().streams[&site.name].definition.clone();
    let found = || {
        let config = SpeedConfig {
            assignment: Assignment::Group { id: None, instance: None, advertise: "reader:1".into() },
            ..SpeedConfig::default()
        };
        tokio::task::block_in_place(|| members(&config, &stream)).unwrap()
    };
    assert!(found().is_empty());

    let first = Member::join(&site, "first:1").await;
    let count = |member: &Member| member.fresh(&site).len();
    eventually("the first to have all", || count(&first) == 4).await;
    answered(&site, &[&first], &expect).await;
    assert_eq!(found(), ["first:1"]);

    let began = Instant::now();
    let second = Member::join(&site, "second:2").await;
    eventually("both to have half", || (count(&first), count(&second)) == (2, 2)).await;
    println!("joined: {:?}", began.elapsed());
    assert!(first.fresh(&site).is_disjoint(&second.fresh(&site)));
    assert_eq!(found(), ["first:1", "second:2"]);
    answered(&site, &[&first, &second], &expect).await;
    broker.produce(&mut expect, 200_000..400_000);
    answered(&site, &[&first, &second], &expect).await;
    let all: Vec<(i32, i64)> = (0..PARTITIONS).map(|p| (p, 50_000)).collect();
    let master = site.archive().await.latest().await.unwrap();
    assert!(at(&all).covers(&master.frontier));

    let began = Instant::now();
    second.leave().await;
    println!("archived and left: {:?}", began.elapsed());
    eventually("the first to have all again", || count(&first) == 4).await;
    println!("taken over: {:?}", began.elapsed());
    answered(&site, &[&first], &expect).await;
    broker.produce(&mut expect, 400_000..420_000);
    answered(&site, &[&first], &expect).await;
    first.leave().await;
    let master = site.archive().await.latest().await.unwrap();
    assert_eq!(master.mark, master.frontier);
    let ends: Vec<(i32, i64)> = (0..PARTITIONS).map(|p| (p, 105_000)).collect();
    assert_eq!(master.frontier, at(&ends));
}
