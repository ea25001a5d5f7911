//! Clients that mean no good: bytes that are nothing, tickets that were changed, and clients that stop reading.

use std::time::Duration;

use arrow_flight::sql::{CommandPreparedStatementQuery, CommandStatementUpdate, TicketStatementQuery};
use futures::stream;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// Far above what a refusal takes.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_changed_ticket_is_refused() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    let sealed = ticket(&mut raw, "SELECT 1 AS n").await.unwrap();
    let any = arrow_flight::sql::Any::decode(&*sealed.ticket).unwrap();
    let handle = any.unpack::<TicketStatementQuery>().unwrap().unwrap().statement_handle;
    let open = async |raw: &mut FlightServiceClient<Channel>, handle: Vec<u8>| {
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        messages(raw, Ticket::new(ticket.as_any().encode_to_vec())).await.map(drop)
    };
    open(&mut raw, handle.to_vec()).await.unwrap();
    for at in 0..handle.len() {
        let mut changed = handle.to_vec();
        changed[at] ^= 1;
        assert_eq!(open(&mut raw, changed).await.unwrap_err().code(), Code::InvalidArgument, "{at}");
        assert_eq!(open(&mut raw, handle[..at].to_vec()).await.unwrap_err().code(), Code::InvalidArgument, "{at}");
    }
    // A ticket of another server.
    let other = FlightServer::start().await;
    assert_eq!(messages(&mut other.raw().await, sealed).await.unwrap_err().code(), Code::InvalidArgument);
}

/// Bytes that are nothing, or the begin of a message, or a message with bytes changed.
fn mangled(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let valid = proptest::sample::select(valid);
    let cut = (valid.clone(), any::<proptest::sample::Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len() + 1));
        bytes
    });
    let changed = (valid, proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4));
    let changed = changed.prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), cut, changed]
}

#[test]
fn what_is_no_message_is_refused_in_bounded_time() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(FlightServer::start());
    let raw = runtime.block_on(server.raw());
    let valid = runtime.block_on(async {
        let mut raw = raw.clone();
        let handle = vec![7; 16].into();
        vec![
            statement("SELECT 1").cmd.to_vec(),
            ticket(&mut raw, "SELECT 1").await.unwrap().ticket.to_vec(),
            CommandPreparedStatementQuery { prepared_statement_handle: handle }.as_any().encode_to_vec(),
            CommandStatementUpdate { query: "DROP VIEW x".into(), transaction_id: None }.as_any().encode_to_vec(),
        ]
    });
    let actions = crate::flight_sql::service::ACTIONS.map(|(name, _)| name.to_owned()).to_vec();
    let strategy = (mangled(valid), proptest::sample::select(actions));
    let mut runner = TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() });
    let run = runner.run(&strategy, |(bytes, action)| {
        let mut raw = raw.clone();
        let asked = async move {
            let descriptor = FlightDescriptor::new_cmd(bytes.clone());
            let put = FlightData { flight_descriptor: Some(descriptor.clone()), ..FlightData::default() };
            let header = FlightData { data_header: bytes.clone().into(), ..put.clone() };
            let codes = [
                raw.get_flight_info(descriptor.clone()).await.map(drop),
                raw.get_schema(descriptor).await.map(drop),
                messages(&mut raw, Ticket::new(bytes.clone())).await.map(drop),
                raw.do_put(stream::iter([put])).await.map(drop),
                raw.do_put(stream::iter([header])).await.map(drop),
                match raw.do_action(super::with_body(&action, bytes)).await {
                    Ok(replies) => replies.into_inner().try_collect::<Vec<_>>().await.map(drop),
                    Err(status) => Err(status),
                },
            ];
            codes.map(|reply| reply.map_or_else(|status| status.code(), |()| Code::Ok))
        };
        let asked = runtime.block_on(async { timeout(BOUND, asked).await });
        let codes = asked.map_err(|_| TestCaseError::fail("no reply in time"))?;
        let bad = [Code::Internal, Code::Unknown, Code::Cancelled];
        prop_assert!(codes.iter().all(|code| !bad.contains(code)), "{codes:?}");
        Ok(())
    });
    run.unwrap();
    // The server is unharmed.
    runtime.block_on(async {
        let mut client = server.client().await;
        assert_eq!(query(&mut client, "SELECT 1 AS n").await, ["n", "1"]);
    });
}

#[test]
fn bound_values_that_were_mangled_are_refused_in_bounded_time() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let texts: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![Some("a"), None, Some("ccc")]));
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("$1", texts, true),
        ("$2", Arc::new(list) as arrow::array::ArrayRef, true),
    ]);
    let mut encoder = frames::FrameEncoder::new(&batch.as_ref().unwrap().schema());
    let mut whole = vec![encoder.first(Default::default())];
    whole.extend(encoder.batch(&batch.unwrap()).unwrap());
    let changes =
        proptest::collection::vec((0..2_usize, any::<bool>(), any::<proptest::sample::Index>(), any::<u8>()), 1..4);
    let mut runner = TestRunner::new(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() });
    let run = runner.run(&changes, |changes| {
        let mut messages = whole.clone();
        for (message, head, at, byte) in changes {
            let part = if head { &mut messages[message].data_header } else { &mut messages[message].data_body };
            let mut bytes = part.to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            *part = bytes.into();
        }
        let decoding = async move {
            let mut received = parameters::BoundMessages::default();
            for message in messages {
                received.push(message)?;
            }
            match received.decode().await? {
                Some(batch) => parameters::rows(&batch).map(|rows| rows.len()),
                None => Ok(0),
            }
        };
        let decoded = runtime
            .block_on(async { timeout(BOUND, decoding).await })
            .map_err(|_| TestCaseError::fail("not decoded in time"))?;
        if let Err(error) = decoded {
            prop_assert!(error.status() < 500, "{error}");
        }
        Ok(())
    });
    run.unwrap();
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_query() {
    let server = FlightServer::with(|config| {
        config.http = HttpLimits { client_within: Duration::from_millis(300), ..HttpLimits::default() };
    })
    .await;
    let mut raw = server.raw().await;
    let wide = "SELECT value, repeat('x', 1000) AS pad FROM generate_series(1, 10000000)";
    let long = ticket(&mut raw, wide).await.unwrap();
    let mut stream = raw.do_get(long).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let engine = Arc::clone(&server.engine);
    let ended = timeout(BOUND, async {
        while !engine.activity.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.expect("the query goes on");
    // The client hears of its end, unless its connection is cut already.
    let rest: Result<Vec<FlightData>, Status> = stream.try_collect().await;
    assert!(rest.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_a_small_answer_lying_loses_its_connection() {
    let server = FlightServer::with(|config| {
        config.http = HttpLimits { client_within: Duration::from_millis(300), ..HttpLimits::default() };
    })
    .await;
    let endpoint = Endpoint::new(format!("http://{}", server.address)).unwrap();
    let mut raw = FlightServiceClient::new(endpoint.initial_stream_window_size(65_535).connect().await.unwrap());
    // All messages are made before the client has taken the first one.
    let small = ticket(&mut raw, "SELECT repeat('x', 1500000) AS pad FROM generate_series(1, 2)").await.unwrap();
    let stream = raw.do_get(small.clone()).await.unwrap().into_inner();
    let engine = Arc::clone(&server.engine);
    let cut = timeout(BOUND, async {
        while !engine.activity.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    cut.await.expect("the connection stays");
    let rest: Result<Vec<FlightData>, Status> = stream.try_collect().await;
    assert!(rest.is_err());
    // Whoever reads has the same answer whole.
    let whole = messages(&mut server.raw().await, small).await.unwrap();
    assert_eq!(whole.iter().filter(|message| !message.data_body.is_empty()).count(), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_query() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    let long = ticket(&mut raw, "SELECT value FROM generate_series(1, 1000000000)").await.unwrap();
    let mut stream = raw.do_get(long).await.unwrap().into_inner();
    stream.message().await.unwrap();
    drop((stream, raw));
    let engine = Arc::clone(&server.engine);
    let ended = timeout(BOUND, async {
        while !engine.activity.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.expect("the query goes on");
}

#[tokio::test]
async fn silent_connections_end_and_are_counted() {
    let server = FlightServer::with(|config| {
        config.http = HttpLimits { connections: 2, client_within: Duration::from_millis(300) };
    })
    .await;
    // Neither says a word of HTTP/2.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut babbling = TcpStream::connect(server.address).await.unwrap();
    babbling.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // The third connection waits until one of them has ended.
    let mut client = timeout(BOUND, server.client()).await.unwrap();
    assert_eq!(timeout(BOUND, query(&mut client, "SELECT 1 AS n")).await.unwrap(), ["n", "1"]);
    for stream in [&mut silent, &mut babbling] {
        let mut rest = Vec::new();
        // An error is an end as well.
        let _ = timeout(BOUND, stream.read_to_end(&mut rest)).await.expect("a silent connection stays");
    }
}
