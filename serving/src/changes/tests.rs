//! Clients that listen while the stream moves: after every step they have the rows of one query at its frontier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Error as SharedError, Fault, Frontier, ViewName};
use tokio_util::sync::CancellationToken;

use super::feed::FeedEvent;
use super::*;
use crate::Error;
use crate::engine::{ASSEMBLED, Engine};
use crate::fixture::{World, at};
use crate::options::Options;

/// The platform, its engine and its feeds.
struct Place {
    world: World,
    engine: Arc<Engine>,
    feeds: Arc<ChangeFeeds>,
}

impl Place {
    async fn standing(archived: &Frontier, cut: &Frontier, to: &Frontier) -> Self {
        let world = World::standing(archived, cut, to).await;
        let engine = Arc::new(Engine::new(world.config(), world.sources.clone()).unwrap());
        let feeds = ChangeFeeds::new(5, Duration::from_millis(1), CancellationToken::new());
        Self { world, engine, feeds: Arc::new(feeds) }
    }

    async fn listen(&self, request: ListenRequest) -> Client {
        let events = listen(&self.feeds, &self.engine, request).await.unwrap().events;
        Client { events, rows: BTreeMap::new(), at: None, resets: 0, changes: 0 }
    }

    /// Reads on to `to`, with views that are published at `cut`.
    async fn move_to(&self, archived: &Frontier, cut: &Frontier, to: &Frontier) {
        let snapshot = self.world.snapshot(archived, cut, to).await;
        self.world.publish(cut, to).await;
        self.world.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    /// The rows of a query, as sorted lines.
    async fn query(&self, sql: &str) -> Vec<String> {
        let answer = self.engine.run(sql, Options::default()).await.unwrap();
        let batches: Vec<_> = answer.batches.try_collect().await.unwrap();
        let mut lines: Vec<String> = batches.iter().flat_map(texts).collect();
        lines.sort();
        lines
    }
}

/// A client, and what it has.
struct Client {
    events: super::listener::ChangeEvents,
    rows: BTreeMap<String, String>,
    at: Option<ResumeToken>,
    resets: usize,
    /// Rows that came with steps.
    changes: usize,
}

impl Client {
    async fn until(&mut self, frontier: &Frontier) {
        while self.at.as_ref().is_none_or(|at| at.frontier != *frontier) {
            self.next().await.unwrap();
        }
    }

    async fn next(&mut self) -> Result<(), Error> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await.expect("an event in time");
        match next.expect("an event")? {
            ChangeEvent::Reset { .. } => {
                self.rows.clear();
                (self.resets, self.changes) = (self.resets + 1, 0);
            }
            ChangeEvent::Rows { kind, rows, keys } => {
                for (key, row) in texts(&keys).into_iter().zip(texts(&rows)) {
                    self.changes += 1;
                    match kind {
                        ChangeKind::Upsert => drop(self.rows.insert(key, row)),
                        ChangeKind::Delete => assert_eq!(self.rows.remove(&key), Some(row), "the last row of {key}"),
                    }
                }
            }
            ChangeEvent::Frontier(token) => self.at = Some(token),
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.rows.values().cloned().collect();
        lines.sort();
        lines
    }
}

/// Each row as a line.
fn texts(batch: &arrow::record_batch::RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(line).collect()
}

fn request(view: &str) -> ListenRequest {
    ListenRequest { view: ViewName::new(view).unwrap(), selection: None, since: None }
}

fn selected(view: &str, columns: &'static str, condition: &'static str) -> ListenRequest {
    let selection: Selection = Arc::new(move |table, keys| {
        let keys: String = (0..keys).map(|i| format!(", _key_{i}")).collect();
        super::tables::statement(&format!("SELECT {columns}{keys} FROM {ASSEMBLED}.{table} WHERE {condition}"))
    });
    ListenRequest { selection: Some(selection), ..request(view) }
}

/// Where the stream goes: archived, cut and read. The batch layer passes frontiers at which clients stood.
fn way() -> [(Frontier, Frontier, Frontier); 6] {
    [
        (at(4, 3), at(2, 1), at(5, 4)),
        (at(4, 3), at(2, 1), at(9, 4)),
        (at(9, 8), at(8, 3), at(9, 9)),
        (at(9, 9), at(9, 9), at(20, 15)),
        (at(30, 30), at(25, 28), at(40, 31)),
        (at(40, 31), at(40, 31), at(41, 60)),
    ]
}

const VIEWS: [&str; 3] = ["device_minutes", "totals", "busy"];

#[tokio::test]
async fn steps_lead_to_the_rows_of_a_query() {
    let place = Place::standing(&at(0, 0), &at(0, 0), &at(0, 0)).await;
    let mut clients = Vec::new();
    for view in VIEWS {
        clients.push((view, place.listen(request(view)).await));
    }
    for (archived, cut, to) in way() {
        place.move_to(&archived, &cut, &to).await;
        for (view, client) in &mut clients {
            client.until(&to).await;
            assert_eq!(client.lines(), place.query(&format!("SELECT * FROM {view}")).await, "{view} at {to}");
            assert_eq!(client.resets, 1, "{view} at {to}");
        }
    }
    assert_eq!(place.feeds.running_feeds(), VIEWS.len());
}

#[tokio::test]
async fn a_client_goes_on_from_every_frontier_exactly() {
    let place = Place::standing(&at(0, 0), &at(0, 0), &at(0, 0)).await;
    let mut stood = Vec::new();
    for view in VIEWS {
        let mut client = place.listen(request(view)).await;
        client.until(&at(0, 0)).await;
        stood.push((view, client.at.unwrap(), client.rows));
    }
    for (archived, cut, to) in way() {
        place.move_to(&archived, &cut, &to).await;
        let mut now_stand = Vec::new();
        for view in VIEWS {
            let now = place.query(&format!("SELECT * FROM {view}")).await;
            for (_, token, rows) in stood.iter().filter(|(of, ..)| *of == view) {
                let mut client = place.listen(ListenRequest { since: Some(token.clone()), ..request(view) }).await;
                client.rows = rows.clone();
                client.until(&to).await;
                assert_eq!(client.lines(), now, "{view} from {token} to {to}");
                assert_eq!(client.resets, 0, "{view} from {token} to {to}");
                let differ = client.rows.iter().filter(|(key, row)| rows.get(*key) != Some(row)).count();
                assert_eq!(client.changes, differ, "{view} from {token} to {to}: no row that is the same");
                if token.frontier == stood.last().unwrap().1.frontier {
                    now_stand.push((view, client.at.unwrap(), client.rows));
                }
            }
        }
        stood.extend(now_stand);
    }
}

#[tokio::test]
async fn a_client_hears_of_its_columns_and_rows_alone() {
    let place = Place::standing(&at(0, 0), &at(0, 0), &at(0, 0)).await;
    let check = [
        ("device, readings", "readings BETWEEN 1 AND 2"),
        ("device", "readings < 3"),
        ("peak", "peak > 100"),
        ("readings % 2 AS odd", "device <> 'd1'"),
        ("*", "false"),
    ];
    let mut clients = Vec::new();
    for (columns, condition) in check {
        clients.push((columns, condition, place.listen(selected("device_minutes", columns, condition)).await));
    }
    for (archived, cut, to) in way() {
        place.move_to(&archived, &cut, &to).await;
        for (columns, condition, client) in &mut clients {
            client.until(&to).await;
            let sql = format!("SELECT {columns} FROM device_minutes WHERE {condition}");
            assert_eq!(client.lines(), place.query(&sql).await, "{sql} at {to}");
            assert_eq!(client.resets, 1, "{sql} at {to}");
        }
    }
    let refused = listen(&place.feeds, &place.engine, request("device_minutes")).await;
    assert!(matches!(refused, Err(Error::TooManyListeners { listening: 5 })));
}

#[tokio::test]
async fn who_cannot_go_on_begins_anew() {
    let place = Place::standing(&at(4, 3), &at(2, 1), &at(5, 4)).await;
    let id = place.world.view_id("device_minutes");
    let other = place.world.view_id("totals");
    let check = async |view_id: &str, frontier: Frontier, resets: usize| {
        let since = ResumeToken { view_id: view_id.to_owned(), frontier };
        let mut client = place.listen(ListenRequest { since: Some(since.clone()), ..request("device_minutes") }).await;
        if resets > 0 {
            client.until(&at(5, 4)).await;
            assert_eq!(client.lines(), place.query("SELECT * FROM device_minutes").await);
        } else {
            let waited = tokio::time::timeout(Duration::from_millis(50), client.events.recv()).await;
            assert!(waited.is_err(), "{since}: nothing is new");
        }
        assert_eq!(client.resets, resets, "{since}");
    };
    check(id.as_str(), at(5, 4), 0).await;
    check(other.as_str(), at(5, 4), 1).await;
    check(id.as_str(), at(5, 5), 1).await;
    check(id.as_str(), at(6, 0), 1).await;
    check(id.as_str(), Frontier::from([(0, 1), (7, 1)]), 1).await;
}

#[tokio::test]
async fn mistakes_are_told_before_the_first_event() {
    let place = Place::standing(&at(4, 3), &at(2, 1), &at(5, 4)).await;
    let error = async |request: ListenRequest| listen(&place.feeds, &place.engine, request).await.err().unwrap();
    let unknown = error(request("nothing")).await;
    assert!(matches!(unknown, Error::Shared(SharedError::FindDefinition { .. })), "{unknown}");
    let column = error(selected("device_minutes", "nothing", "true")).await;
    assert_eq!(column.code().as_str(), "invalid_query", "{column}");
    let condition = error(selected("device_minutes", "*", "device + 1 > 'x' || []")).await;
    assert!(["invalid_query", "syntax"].contains(&condition.code().as_str()), "{condition}");
}

#[tokio::test]
async fn a_feed_ends_with_its_last_listener() {
    let place = Place::standing(&at(4, 3), &at(2, 1), &at(5, 4)).await;
    let mut first = place.listen(request("busy")).await;
    let mut second = place.listen(request("busy")).await;
    first.until(&at(5, 4)).await;
    second.until(&at(5, 4)).await;
    assert_eq!(place.feeds.running_feeds(), 1);
    drop(first);
    place.move_to(&at(4, 3), &at(2, 1), &at(9, 9)).await;
    second.until(&at(9, 9)).await;
    drop(second);
    // A listener looks for its client when there is something to send, and at once when the client has gone.
    tokio::time::timeout(Duration::from_secs(10), async {
        while place.feeds.running_feeds() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_feed_that_has_ended_takes_no_listeners() {
    let place = Place::standing(&at(4, 3), &at(2, 1), &at(5, 4)).await;
    let name = ViewName::new("busy").unwrap();
    // Somebody who has not looked at the news yet keeps the feed.
    let mut first = place.feeds.join(&place.engine, &name).await.unwrap();
    let id = place.world.view_id("busy");
    let (step, fault, reason) = (FailedStep::Update, Fault::User, "Divide by zero error".to_owned());
    let failure = ViewFailure { step, fault, reason, expression: None, from: at(7, 8), to: at(7, 9), since_ms: 1 };
    place.world.alter(|snapshot| {
        snapshot.views.remove(&id);
        snapshot.failed.insert(id.clone(), Arc::new(failure));
    });
    let news = tokio::time::timeout(Duration::from_secs(60), first.steps.recv()).await.expect("news in time");
    assert!(matches!(news, Ok(FeedEvent::Anew)));
    // The view is well again.
    place.move_to(&at(4, 3), &at(2, 1), &at(9, 9)).await;
    let mut second = place.feeds.join(&place.engine, &name).await.unwrap();
    assert!(!Arc::ptr_eq(&first.feed, &second.feed));
    place.move_to(&at(4, 3), &at(2, 1), &at(12, 12)).await;
    tokio::time::timeout(Duration::from_secs(60), second.steps.recv()).await.expect("a step in time").unwrap();
}

#[tokio::test]
async fn a_slow_client_is_given_larger_steps() {
    let place = Place::standing(&at(0, 0), &at(0, 0), &at(0, 0)).await;
    let mut quick = place.listen(request("totals")).await;
    let mut slow = place.listen(request("totals")).await;
    slow.until(&at(0, 0)).await;
    let mut steps = 0;
    for offset in 1..60 {
        place.move_to(&at(0, 0), &at(0, 0), &at(offset, 0)).await;
        quick.until(&at(offset, 0)).await;
        steps += 1;
    }
    slow.until(&at(59, 0)).await;
    assert_eq!(slow.lines(), quick.lines());
    assert_eq!((slow.resets, quick.resets), (1, 1));
    assert!(slow.changes < steps, "{} of {steps}", slow.changes);
}
