//! Bytes that are no messages: no panic, no hang, and the server goes on.

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::clients::{connected, query};
use super::*;
use crate::access::HttpLimits;

/// The message with which a client leaves.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Sends bytes, and reads until the server closes the connection. A client that has not left closes its side, which
/// ends what it has asked for.
async fn send(mut raw: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let talk = async {
        // The server may have closed the connection at the first wrong byte.
        let _ = raw.write_all(bytes).await;
        if !bytes.ends_with(TERMINATE) {
            let _ = raw.shutdown().await;
        }
        let _ = raw.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(Duration::from_secs(10), talk).await.expect("the server keeps the connection");
    answer
}

/// A message of a kind whose length may be wrong.
fn frame(kind: u8, length: i64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&((body.len() as i64 + 4 + length) as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(b"QPBDECHSXdcfFp".to_vec());
    let length = prop_oneof![9 => Just(0_i64), 1 => -8..8_i64, 1 => Just(i64::from(i32::MAX))];
    let piece = prop_oneof![
        Just(b"\0".to_vec()),
        Just(b"SELECT 1\0".to_vec()),
        Just(b"\0\x01".to_vec()),
        Just(b"\xff\xff\xff\xff".to_vec()),
        Just(b"S".to_vec()),
        Just(b"P".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let body = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    let one = (kinds, length, body).prop_map(|(kind, length, body)| frame(kind, length, &body));
    prop::collection::vec(one, 1..6).prop_map(|frames| frames.concat())
}

#[test]
fn malformed_messages_end_nothing_but_their_connection() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let limits = HttpLimits { client_within: Duration::from_secs(2), ..HttpLimits::default() };
    let server = runtime.block_on(Server::configured(|config| config.http = limits));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() });
    let before = prop::bool::ANY;
    let bytes = prop_oneof![frames(), prop::collection::vec(any::<u8>(), 0..64)];
    let ran = runner.run(&(before, bytes), |(is_start, bytes)| {
        runtime.block_on(async {
            let raw = match is_start {
                true => TcpStream::connect(("127.0.0.1", server.port)).await.unwrap(),
                false => connected(&server).await,
            };
            send(raw, &bytes).await;
        });
        Ok::<(), TestCaseError>(())
    });
    ran.unwrap();
    runtime.block_on(async {
        let client = server.client().await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
        assert!(!server.task.is_finished());
    });
}

#[tokio::test]
async fn every_message_may_be_cut_off_anywhere() {
    let server = Server::start().await;
    let mut whole = query("SELECT 1");
    whole.extend(frame(b'P', 0, b"s\0SELECT $1 + 1\0\0\x01\0\0\0\x14"));
    whole.extend(frame(b'B', 0, b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x05\0\x01\0\x01"));
    whole.extend(frame(b'D', 0, b"P\0"));
    whole.extend(frame(b'E', 0, b"\0\0\0\0\0"));
    whole.extend(frame(b'C', 0, b"Ss\0"));
    whole.extend(frame(b'H', 0, b""));
    whole.extend(frame(b'S', 0, b""));
    for end in 0..whole.len() {
        send(connected(&server).await, &whole[..end]).await;
    }
    whole.extend_from_slice(TERMINATE);
    let answer = send(connected(&server).await, &whole).await;
    assert!(answer.ends_with(b"3\0\0\0\x04Z\0\0\0\x05I"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_length_is_refused_before_its_bytes_are_taken() {
    let server = Server::start().await;
    for length in [0_u32, 3, (4 << 20) + 5, u32::MAX] {
        let mut bytes = vec![b'Q'];
        bytes.extend_from_slice(&length.to_be_bytes());
        let answer = send(connected(&server).await, &bytes).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("FATAL") && answer.contains("08P01"), "{length}: {answer}");
    }
    let long = format!("SELECT 1 -- {}", "x".repeat(1 << 20));
    let answer = send(connected(&server).await, &[query(&long), TERMINATE.to_vec()].concat()).await;
    assert!(answer.ends_with(b"Z\0\0\0\x05I"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_error_skips_to_the_next_sync() {
    let server = Server::start().await;
    let parse = |sql: &str| frame(b'P', 0, format!("\0{sql}\0\0\0").as_bytes());
    let run = [frame(b'B', 0, b"\0\0\0\0\0\0\0\0"), frame(b'E', 0, b"\0\0\0\0\0")].concat();
    let sync = frame(b'S', 0, b"");
    let all = [
        parse("SELECT nothing"),
        run.clone(),
        run.clone(),
        sync.clone(),
        parse("SELECT 7"),
        run,
        sync,
        TERMINATE.to_vec(),
    ];
    let answer = send(connected(&server).await, &all.concat()).await;
    let count = |kind: &[u8]| answer.windows(kind.len()).filter(|part| *part == kind).count();
    assert_eq!(count(b"SERROR\0"), 1);
    assert_eq!(count(b"Z\0\0\0\x05I"), 2);
    assert_eq!(count(b"SELECT 1\0"), 1);
}
