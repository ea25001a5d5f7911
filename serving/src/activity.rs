//! What the server is doing: the sessions of clients, the queries under way, and the queries that ended last.
//!
//! Invariant: an entry ends with its owner ([`ListedQuery`], [`ListedSession`]), however the owner ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use thalweg_schemas::api::sql::Frontiers;
use thalweg_schemas::clock::WallClock;
use tokio_util::sync::CancellationToken;

/// Ended queries that are remembered.
const REMEMBERED: usize = 1_000;

/// Characters of a text that are remembered.
const TEXT: usize = 4_000;

/// What is shown in place of texts that may hold secrets.
const HIDDEN: &str = "definitions";

/// Words of statements that may hold secrets, also of those that cannot be read.
const DEFINING: [&str; 3] = ["create", "alter", "options"];

/// The protocol through which a client asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Http,
    Postgres,
    FlightSql,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Postgres => "postgres",
            Protocol::FlightSql => "flight_sql",
        }
    }
}

/// The client of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestClient {
    pub(crate) protocol: Protocol,
    /// The client's session, if the protocol has sessions.
    pub(crate) session: Option<u64>,
}

/// A query under way.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    pub(crate) id: u64,
    pub(crate) client: RequestClient,
    /// The first characters of the text. The text of definitions, which may hold secrets, is left out.
    pub(crate) text: Mutex<String>,
    /// Milliseconds since 1970.
    pub(crate) began_ms: i64,
    began: Instant,
    /// Known once the query is pinned.
    pub(crate) frontier: Mutex<Option<Frontiers>>,
    /// Rows handed out so far.
    pub(crate) rows: AtomicU64,
    cancel: CancellationToken,
}

impl RunningQuery {
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// A query that has ended.
#[derive(Debug, Clone)]
pub(crate) struct EndedQuery {
    pub(crate) query: Arc<RunningQuery>,
    pub(crate) seconds: f64,
    /// `ok`, `cancelled`, or the code of an error.
    pub(crate) outcome: &'static str,
}

/// A session of a client, as long as its connection.
#[derive(Debug, Clone)]
pub(crate) struct ClientSession {
    pub(crate) id: u64,
    pub(crate) protocol: Protocol,
    /// The client's address.
    pub(crate) address: String,
    pub(crate) user: String,
    /// What the client calls itself.
    pub(crate) application: String,
    /// Milliseconds since 1970.
    pub(crate) began_ms: i64,
}

/// The registry of sessions and queries of one server.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    ids: AtomicU64,
    queries: Mutex<BTreeMap<u64, Arc<RunningQuery>>>,
    ended: Mutex<VecDeque<EndedQuery>>,
    sessions: Mutex<BTreeMap<u64, ClientSession>>,
}

impl Activity {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lists a query until the returned value is dropped.
    pub(crate) fn begin_query(self: &Arc<Self>, text: &str, client: RequestClient) -> ListedQuery {
        let query = Arc::new(RunningQuery {
            id: self.next_id(),
            client,
            text: Mutex::new(if may_define(text) { HIDDEN.to_owned() } else { shortened(text) }),
            began_ms: WallClock::System.now_ms(),
            began: Instant::now(),
            frontier: Mutex::default(),
            rows: AtomicU64::new(0),
            cancel: CancellationToken::new(),
        });
        self.queries.lock().insert(query.id, Arc::clone(&query));
        ListedQuery { activity: Arc::clone(self), query, outcome: CANCELLED }
    }

    /// Lists a session until the returned value is dropped.
    pub(crate) fn begin_session(
        self: &Arc<Self>,
        protocol: Protocol,
        address: String,
        user: String,
        application: String,
    ) -> ListedSession {
        let id = self.next_id();
        let began_ms = WallClock::System.now_ms();
        let session = ClientSession { id, protocol, address, user, application, began_ms };
        self.sessions.lock().insert(id, session);
        ListedSession { activity: Arc::clone(self), id }
    }

    /// Queries under way, in the order of their begin.
    pub(crate) fn running(&self) -> Vec<Arc<RunningQuery>> {
        self.queries.lock().values().cloned().collect()
    }

    /// Queries that have ended, the newest last.
    pub(crate) fn ended(&self) -> Vec<EndedQuery> {
        self.ended.lock().iter().cloned().collect()
    }

    pub(crate) fn sessions(&self) -> Vec<ClientSession> {
        self.sessions.lock().values().cloned().collect()
    }

    /// Cancels a query. Returns false if no such query runs.
    pub(crate) fn cancel_query(&self, id: u64) -> bool {
        let query = self.queries.lock().get(&id).cloned();
        query.inspect(|query| query.cancel.cancel()).is_some()
    }

    /// Cancels what a session asks for at the moment. Returns false if it asks for nothing.
    pub(crate) fn cancel_session(&self, session: u64) -> bool {
        let of_session = |query: &&Arc<RunningQuery>| query.client.session == Some(session);
        let queries: Vec<_> = self.queries.lock().values().filter(of_session).cloned().collect();
        queries.iter().for_each(|query| query.cancel.cancel());
        !queries.is_empty()
    }
}

/// The outcome of a query whose client goes, and of one that is cancelled.
const CANCELLED: &str = "cancelled";

/// A query that is listed; it counts as cancelled if dropped before its end.
#[derive(Debug)]
pub(crate) struct ListedQuery {
    activity: Arc<Activity>,
    query: Arc<RunningQuery>,
    outcome: &'static str,
}

fn may_define(text: &str) -> bool {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.into_iter().any(|word| DEFINING.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

impl ListedQuery {
    /// Leaves the text out, because it may hold secrets.
    pub(crate) fn hide_text(&self) {
        *self.query.text.lock() = HIDDEN.to_owned();
    }

    /// Shows the text of a query, which has no secrets, also if it has words of definitions.
    pub(crate) fn show_text(&self, text: &str) {
        *self.query.text.lock() = shortened(text);
    }

    pub(crate) fn pinned(&self, frontier: &Frontiers) {
        *self.query.frontier.lock() = Some(frontier.clone());
    }

    pub(crate) fn handed_out(&self, rows: usize) {
        self.query.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_outcome(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    pub(crate) fn outcome(&self) -> &'static str {
        self.outcome
    }

    /// Returns once somebody has cancelled the query.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        self.query.cancel.clone().cancelled_owned()
    }
}

impl Drop for ListedQuery {
    fn drop(&mut self) {
        self.activity.queries.lock().remove(&self.query.id);
        let mut ended = self.activity.ended.lock();
        if ended.len() == REMEMBERED {
            ended.pop_front();
        }
        let (query, seconds) = (Arc::clone(&self.query), self.query.seconds());
        ended.push_back(EndedQuery { query, seconds, outcome: self.outcome });
    }
}

/// A session that is listed.
#[derive(Debug)]
pub(crate) struct ListedSession {
    activity: Arc<Activity>,
    id: u64,
}

impl ListedSession {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The client says what it is called.
    pub(crate) fn rename(&self, application: &str) {
        if let Some(session) = self.activity.sessions.lock().get_mut(&self.id) {
            session.application = application.to_owned();
        }
    }
}

impl Drop for ListedSession {
    fn drop(&mut self) {
        self.activity.sessions.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_with_their_owners() {
        let activity = Arc::new(Activity::default());
        let session = activity.begin_session(Protocol::Postgres, "::1".into(), "me".into(), "psql".into());
        let client = RequestClient { protocol: Protocol::Postgres, session: Some(session.id()) };
        let mut first = activity.begin_query("SELECT 1", client);
        let second = activity.begin_query(&"x".repeat(TEXT + 1), RequestClient::default());
        assert_eq!(activity.running().len(), 2);
        assert_eq!(activity.running()[1].text.lock().len(), TEXT);
        first.set_outcome("ok");
        first.handed_out(3);
        drop(first);
        let ended = activity.ended();
        assert_eq!((ended[0].outcome, ended[0].query.rows.load(Ordering::Relaxed)), ("ok", 3));
        drop(second);
        assert_eq!(activity.ended()[1].outcome, CANCELLED);
        session.rename("dbeaver");
        assert_eq!(activity.sessions()[0].application, "dbeaver");
        drop(session);
        assert!(activity.sessions().is_empty() && activity.running().is_empty());
        for _ in 0..REMEMBERED {
            activity.begin_query("SELECT 2", RequestClient::default());
        }
        assert_eq!(activity.ended().len(), REMEMBERED);
    }

    #[test]
    fn texts_that_may_hold_secrets_are_shown_to_nobody() {
        let activity = Arc::new(Activity::default());
        let shown = |text: &str| activity.begin_query(text, RequestClient::default()).query.text.lock().clone();
        assert_eq!(shown("SELECT created, options_of FROM s"), "SELECT created, options_of FROM s");
        assert_eq!(shown("CREATE EXTERNAL TABLE s OPTIONS ('kafka.sasl.password' 'x'"), HIDDEN);
        assert_eq!(shown("OPTIONS('kafka.sasl.password' 'x')"), HIDDEN);
        assert_eq!(shown("SELECT 1;creATE EXTERNAL TABLE s"), HIDDEN);
        let query = activity.begin_query("SELECT 'create'", RequestClient::default());
        query.show_text("SELECT 'create'");
        assert_eq!(*query.query.text.lock(), "SELECT 'create'");
    }

    #[tokio::test]
    async fn a_query_is_cancelled_by_its_id_or_by_its_session() {
        let activity = Arc::new(Activity::default());
        let client = RequestClient { protocol: Protocol::Postgres, session: Some(7) };
        let by_id = activity.begin_query("SELECT 1", RequestClient::default());
        let by_session = activity.begin_query("SELECT 2", client);
        assert!(!activity.cancel_query(999) && !activity.cancel_session(8));
        let id = activity.running()[0].id;
        assert!(activity.cancel_query(id) && activity.cancel_session(7));
        by_id.cancelled().await;
        by_session.cancelled().await;
    }
}
