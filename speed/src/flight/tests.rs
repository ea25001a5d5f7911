//! Answers to pin requests, and invalid requests over a real connection. `tests/it/flight/` tests the readers.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Empty, Ticket as FlightTicket};
use thalweg_kit::positions::at;
use thalweg_kit::snapshots::Shown;
use thalweg_kit::{definitions, segments, snapshots};
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::protocol::{Coverage, PIN, PinRequest, STATUS, StatesTicket, Ticket, WorkerStatus};
use thalweg_schemas::realtime::segment::{Provenance, ViewSegments};
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::{Frontier, Offset, Partition, ViewId};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::*;

fn name() -> StreamName {
    StreamName::new("s").unwrap()
}

/// An empty snapshot at these positions.
pub(super) fn snapshot(to: &[(i32, i64)]) -> StreamSnapshot {
    let nothing = Frontier::new();
    snapshots::snapshot(Arc::new(snapshots::master(&name(), &nothing)), &nothing, &at(to))
}

async fn view() -> Arc<CompiledView> {
    let stream = definitions::stream("s", &[("device", DataType::Utf8)]);
    let query = "SELECT device, count(*) AS n FROM s GROUP BY device";
    definitions::view(&definitions::catalog(stream, Frontier::new(), &[("v", query)]).await, "v")
}

fn request(views: BTreeMap<ViewId, Frontier>, rows: Option<Frontier>) -> PinRequest {
    PinRequest { stream: name(), definition: "d".into(), views, rows, keep_ms: 1000, stale: false }
}

#[tokio::test]
async fn ranges_are_named_per_partition() {
    let view = view().await;
    let id = view.plan.id().clone();
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let segment = async |partition, from, to| {
        let (partition, range) = (Partition(partition), (Offset(from), Offset(to)));
        Arc::new(segments::segment(&state, &view, &[], partition, range, Provenance::Live).await)
    };
    let mut snapshot = snapshot(&[(0, 9), (2, 4), (3, 6)]);
    snapshot.caught_up_partitions.remove(&Partition(3));
    let held = ViewSegments {
        partitions: BTreeMap::from([
            (Partition(0), vec![segment(0, 2, 5).await, segment(0, 5, 7).await, segment(0, 7, 9).await]),
            (Partition(2), vec![segment(2, 0, 3).await]),
        ]),
    };
    snapshot.views.insert(id.clone(), Arc::new(held));
    let chunk = |from: &[(i32, i64)], to: &[(i32, i64)]| snapshots::chunk(&at(from), &at(to), Vec::new());
    snapshot.rows = vec![chunk(&[(0, 4), (2, 0)], &[(0, 6), (2, 1)]), chunk(&[(0, 6), (2, 2)], &[(0, 9), (2, 4)])];
    let unknown = ViewId::of(&["elsewhere"]);
    let from = at(&[(0, 5), (1, 3)]);
    let asked = BTreeMap::from([(id.clone(), from.clone()), (unknown.clone(), from.clone())]);
    let known = BTreeMap::from([(id.clone(), Arc::clone(&view))]);
    let found = answer::partitions(&request(asked, Some(from)), &snapshot, None, &known);
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

/// A worker with one stream and a token, and a client that knows the token.
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
        let handle = Shown::new(Some(snapshot(&[(0, 9)]))).handle();
        let config =
            FlightConfig { worker: "w".into(), token: Some("secret".into()), tls: None, threads: 1, spill: None };
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
        spill: None,
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
