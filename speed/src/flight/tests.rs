//! What a pin's answer says; requests that make no sense, over a real connection. Readers are met in `tests/flight/`.

use std::collections::BTreeMap;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Empty, Ticket as FlightTicket};
use thalweg_schemas::algebra::ViewPlan;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::definition::{self, Statement};
use thalweg_schemas::realtime::protocol::{Coverage, PIN, PinRequest, STATUS, StatesTicket, Ticket, WorkerStatus};
use thalweg_schemas::realtime::segment::{Provenance, Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::{RowsChunk, StreamSnapshot};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Offset, Partition, ViewId};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::*;

fn at(pairs: &[(i32, i64)]) -> Frontier {
    let pairs = pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o)));
    pairs.collect()
}

fn name() -> StreamName {
    StreamName::new("s").unwrap()
}

/// A snapshot at these positions that holds nothing.
pub(super) fn snapshot(to: &[(i32, i64)]) -> StreamSnapshot {
    let frontier = at(to);
    StreamSnapshot {
        stream: name(),
        origin: Frontier::new(),
        caught_up_partitions: frontier.partitions().collect(),
        frontier,
        caught_up: true,
        waiting: None,
        master: Arc::new(MasterVersion {
            stream: name(),
            version: 0,
            frontier: Frontier::new(),
            mark: Frontier::new(),
            files: Arc::from([]),
            last: HashMap::new(),
        }),
        rows: Vec::new(),
        views: HashMap::new(),
        health: BTreeMap::new(),
        memory_bytes: 7,
        memory_budget: 70,
        paused: false,
    }
}

async fn view() -> Arc<CompiledView> {
    let sql = "CREATE EXTERNAL TABLE s (device STRING) STORED AS KAFKA LOCATION 's'
                 OPTIONS ('format' 'json', 'kafka.bootstrap.servers' 'nowhere:1');
               CREATE MATERIALIZED VIEW v AS SELECT device, count(*) AS n FROM s GROUP BY device;";
    let statements = definition::parse(sql).unwrap();
    let [Statement::CreateStream { definition: stream, .. }, Statement::CreateView { definition, .. }] =
        statements.as_slice()
    else {
        panic!("a stream and a view");
    };
    let plan = ViewPlan::compile(definition, stream).await.unwrap();
    Arc::new(CompiledView { definition: definition.clone(), plan })
}

fn request(views: BTreeMap<ViewId, Frontier>, rows: Option<Frontier>) -> PinRequest {
    PinRequest { stream: name(), definition: "d".into(), views, rows, keep_ms: 1000 }
}

#[tokio::test]
async fn ranges_are_named_per_partition() {
    let view = view().await;
    let id = view.plan.id().clone();
    let segment = |partition, from, to| {
        Arc::new(Segment {
            view: id.clone(),
            partition: Partition(partition),
            from: Offset(from),
            to: Offset(to),
            provenance: Provenance::Live,
            states: arrow::array::RecordBatch::new_empty(Arc::clone(view.plan.state_schema())),
            bytes: 0,
            level: 0,
        })
    };
    let mut snapshot = snapshot(&[(0, 9), (2, 4), (3, 6)]);
    snapshot.caught_up_partitions.remove(&Partition(3));
    let held = ViewSegments {
        partitions: BTreeMap::from([
            (Partition(0), vec![segment(0, 2, 5), segment(0, 5, 7), segment(0, 7, 9)]),
            (Partition(2), vec![segment(2, 0, 3)]),
        ]),
    };
    snapshot.views.insert(id.clone(), Arc::new(held));
    let chunk = |from, to| Arc::new(RowsChunk { from, to, batches: Vec::new(), bytes: 0 });
    snapshot.rows =
        vec![chunk(at(&[(0, 4), (2, 0)]), at(&[(0, 6), (2, 1)])), chunk(at(&[(0, 6), (2, 2)]), at(&[(0, 9), (2, 4)]))];
    let unknown = ViewId::of(&["elsewhere"]);
    let from = at(&[(0, 5), (1, 3)]);
    let asked = BTreeMap::from([(id.clone(), from.clone()), (unknown.clone(), from.clone())]);
    let known = BTreeMap::from([(id.clone(), Arc::clone(&view))]);
    let found = answer::partitions(&request(asked, Some(from)), &snapshot, &known);
    assert_eq!(found.keys().map(|p| p.0).collect::<Vec<_>>(), [0, 2, 3]);

    let first = &found[&Partition(0)];
    assert_eq!((first.frontier, first.caught_up), (Offset(9), true));
    let ranges =
        |ranges: &[(i64, i64)]| Coverage::Ranges(ranges.iter().map(|(a, b)| (Offset(*a), Offset(*b))).collect());
    assert_eq!(first.views[&id], ranges(&[(5, 7), (7, 9)]));
    assert_eq!(first.rows, Some(ranges(&[(5, 9)])));
    assert!(matches!(&first.views[&unknown], Coverage::NotHeld(why) if why.contains("not known")));
    let second = &found[&Partition(2)];
    assert!(matches!(&second.views[&id], Coverage::NotHeld(why) if why.contains("end at 3")));
    assert!(matches!(&second.rows, Some(Coverage::NotHeld(why)) if why.contains("do not continue")));
    assert!(!found[&Partition(3)].caught_up);
}

/// A worker with one stream and a token, and a client that knows it.
struct Served {
    client: FlightServiceClient<Channel>,
    token: &'static str,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handle = StreamHandle {
            snapshots: watch::channel(Some(Arc::new(snapshot(&[(0, 9)])))).1,
            failure: watch::channel(None).1,
            archive_failure: watch::channel(None).1,
        };
        let config = FlightConfig { worker: "w".into(), token: Some("secret".into()), tls: None, threads: 1 };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(serve(
            listener,
            config,
            watch::channel(Arc::default()).1,
            watch::channel(Arc::new(HashMap::from([(name(), handle)]))).1,
            cancel.clone(),
        ));
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        Self { client: FlightServiceClient::new(channel), token: "secret", cancel, task }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !self.token.is_empty() {
            let token = format!("Bearer {}", self.token).parse().unwrap();
            request.metadata_mut().insert("authorization", token);
        }
        request
    }

    async fn act(&mut self, action: &str, body: &[u8]) -> Result<Vec<u8>, Code> {
        let request = self.request(Action::new(action, body.to_vec()));
        let answers = self.client.do_action(request).await.map_err(|s| s.code())?;
        let answer = answers.into_inner().message().await.map_err(|s| s.code())?;
        Ok(answer.unwrap().body.to_vec())
    }

    async fn get(&mut self, ticket: &[u8]) -> Code {
        let request = self.request(FlightTicket::new(ticket.to_vec()));
        match self.client.do_get(request).await {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        }
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_end_nothing() {
    let mut served = Served::start().await;
    assert_eq!(served.act("thalweg.dance", b"").await, Err(Code::Unimplemented));
    assert_eq!(served.act(PIN, b"{").await, Err(Code::InvalidArgument));
    assert_eq!(served.get(b"").await, Code::InvalidArgument);
    let ticket = Ticket::States(StatesTicket {
        pin: "of an earlier process".into(),
        view: ViewId::of(&["v"]),
        from: Frontier::new(),
        columns: None,
        filters: Vec::new(),
    });
    let ticket = serde_json::to_vec(&ticket).unwrap();
    assert_eq!(served.get(&ticket).await, Code::NotFound);
    let unknown = serde_json::to_vec(&request(BTreeMap::new(), None)).unwrap();
    let answer = served.act(PIN, &unknown).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("does not know stream `s`"), "{answer}");

    let status = served.act(STATUS, b"").await.unwrap();
    let status: WorkerStatus = serde_json::from_slice(&status).unwrap();
    assert_eq!(status.streams[&name()].frontier, Some(at(&[(0, 9)])));
    let actions = served.request(Empty {});
    let mut actions = served.client.list_actions(actions).await.unwrap().into_inner();
    assert_eq!(actions.message().await.unwrap().unwrap().r#type, PIN);

    served.cancel.cancel();
    drop(served.client);
    served.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_the_token_opens() {
    let mut served = Served::start().await;
    assert!(served.act(STATUS, b"").await.is_ok());
    for wrong in ["", "Secret", "secret ", "secret2"] {
        served.token = wrong;
        assert_eq!(served.act(STATUS, b"").await, Err(Code::Unauthenticated), "{wrong}");
        assert_eq!(served.get(b"").await, Code::Unauthenticated, "{wrong}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = FlightConfig {
        worker: "w".into(),
        token: None,
        tls: Some(ServerTls { cert_pem: b"nothing".to_vec(), key_pem: b"nothing".to_vec() }),
        threads: 1,
    };
    let error = serve(
        listener,
        config,
        watch::channel(Arc::default()).1,
        watch::channel(Arc::default()).1,
        CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.fault(), thalweg_schemas::Fault::User, "{error}");
    assert!(error.to_string().contains("PEM"), "{error}");
}
