//! Consumer groups: partitions are shared, reassigned, and kept by static members. Commits survive a restart.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::consumer::CommitMode;

use super::*;

/// A consumer on its own thread, which reports its messages and its assignments.
struct Reader {
    read: mpsc::Receiver<String>,
    assigned: mpsc::Receiver<BTreeSet<i32>>,
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(fixture: &Fixture, properties: &[(&str, &str)]) -> Self {
        let mut config = fixture.consumer();
        config
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "50");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&["t"]).unwrap();
        let ((reads, read), (assigns, assigned)) = (mpsc::channel(), mpsc::channel());
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut before = BTreeSet::new();
            while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                // An error means that the broker is away for a moment.
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                    let _ = reads.send(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
                    // A commit fails while the broker is away or the group rebalances; a later commit includes it.
                    let _ = consumer.commit_message(&message, CommitMode::Sync);
                }
                let now = consumer.assignment().unwrap().elements().iter().map(|e| e.partition()).collect();
                if now != before {
                    let _ = assigns.send(BTreeSet::clone(&now));
                    before = now;
                }
            }
        });
        Self { read, assigned, end: Some(end), thread: Some(thread) }
    }

    /// Waits until the consumer has this many partitions.
    fn has(&self, count: usize) -> BTreeSet<i32> {
        let deadline = Instant::now() + WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let assigned = self.assigned.recv_timeout(left).expect("an assignment");
            if assigned.len() == count {
                return assigned;
            }
        }
    }

    fn reads(&self, count: usize) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        while found.len() < count {
            found.insert(self.read.recv_timeout(WAIT).expect("a message"));
        }
        found
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().map(JoinHandle::join);
    }
}

async fn produce(fixture: &Fixture, numbers: std::ops::Range<i32>) {
    let producer = fixture.producer();
    for number in numbers {
        let payload = number.to_string();
        let record = FutureRecord::<(), _>::to("t").payload(&payload).partition(number % 4);
        producer.send(record, WAIT).await.unwrap();
    }
}

fn numbers(range: std::ops::Range<i32>) -> BTreeSet<String> {
    range.map(|number| number.to_string()).collect()
}

async fn shared_and_reassigned(strategy: &str) {
    let fixture = Fixture::start().await;
    fixture.create("t", 4).await;
    let properties = [("partition.assignment.strategy", strategy)];
    let first = Reader::start(&fixture, &properties);
    assert_eq!(first.has(4).len(), 4);
    let second = Reader::start(&fixture, &properties);
    let (of_first, of_second) = (first.has(2), second.has(2));
    assert_eq!(of_first.union(&of_second).count(), 4);
    // Another group has all partitions for itself.
    let other = Reader::start(&fixture, &[("group.id", "other"), ("partition.assignment.strategy", strategy)]);
    assert_eq!(other.has(4).len(), 4);
    produce(&fixture, 0..40).await;
    let read: BTreeSet<String> = first.reads(20).union(&second.reads(20)).cloned().collect();
    assert_eq!((read, other.reads(40)), (numbers(0..40), numbers(0..40)));
    drop(first);
    assert_eq!(second.has(4).len(), 4);
    produce(&fixture, 40..60).await;
    assert_eq!(second.reads(20), numbers(40..60));
}

#[tokio::test]
async fn partitions_are_shared_and_reassigned() {
    shared_and_reassigned("range").await;
}

#[tokio::test]
async fn partitions_are_reassigned_one_by_one() {
    shared_and_reassigned("cooperative-sticky").await;
}

#[tokio::test]
async fn a_group_continues_after_a_restart() {
    let mut fixture = Fixture::start().await;
    fixture.create("t", 4).await;
    let reader = Reader::start(&fixture, &[]);
    reader.has(4);
    produce(&fixture, 0..20).await;
    assert_eq!(reader.reads(20), numbers(0..20));
    fixture = fixture.restart().await;
    produce(&fixture, 20..40).await;
    assert!(reader.reads(20).is_superset(&numbers(20..40)));
    drop(reader);
    // Another consumer of the group finds its commits.
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range("t", 0, 3);
    let committed = consumer.committed_offsets(asked, WAIT).unwrap();
    assert!(committed.elements().iter().all(|element| element.offset() == Offset::Offset(10)), "{committed:?}");
}

#[tokio::test]
async fn a_static_member_finds_its_partitions_again() {
    let fixture = Fixture::start().await;
    fixture.create("t", 4).await;
    let first = Reader::start(&fixture, &[("group.instance.id", "a")]);
    first.has(4);
    let second = Reader::start(&fixture, &[("group.instance.id", "b")]);
    let (of_first, _) = (first.has(2), second.has(2));
    drop(first);
    let again = Reader::start(&fixture, &[("group.instance.id", "a")]);
    assert_eq!(again.has(2), of_first);
    produce(&fixture, 0..8).await;
    assert_eq!(again.reads(4).union(&second.reads(4)).cloned().collect::<BTreeSet<_>>(), numbers(0..8));
    // The group did not rebalance in between.
    assert!(second.assigned.try_recv().is_err());
}

#[tokio::test]
async fn groups_are_listed_and_commits_need_no_membership() {
    let fixture = Fixture::start().await;
    fixture.create("t", 4).await;
    let reader = Reader::start(&fixture, &[("client.id", "somebody")]);
    reader.has(4);
    let consumer: BaseConsumer = fixture.consumer().set("group.id", "alone").create().unwrap();
    let mut commit = TopicPartitionList::new();
    commit.add_partition_offset("t", 2, Offset::Offset(7)).unwrap();
    consumer.commit(&commit, CommitMode::Sync).unwrap();
    let found = consumer.fetch_group_list(None, WAIT).unwrap();
    let mut shown: Vec<_> = found.groups().iter().map(|group| (group.name(), group.state())).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("alone", "Empty"), ("test", "Stable")]);
    let found = consumer.fetch_group_list(Some("test"), WAIT).unwrap();
    let member = &found.groups()[0].members()[0];
    assert_eq!((member.client_id(), member.client_host()), ("somebody", "/127.0.0.1"));
    assert!(member.assignment().is_some_and(|assignment| !assignment.is_empty()));
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let gone = admin.delete_groups(&["alone", "test", "none"], &AdminOptions::new()).await.unwrap();
    assert_eq!(gone.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
}
