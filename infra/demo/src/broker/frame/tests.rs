//! Frames: accepted requests, and errors that end a connection.

use kafka_protocol::messages::{ApiVersionsResponse, JoinGroupRequest, MetadataRequest, ProduceRequest};

use super::*;
use crate::broker::requests::offers;

/// A frame with key, version, correlation 5 and the client id "me".
fn frame(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.put_i16(key as i16);
    content.put_i16(version);
    content.put_i32(5);
    content.put_i16(2);
    content.put_slice(b"me");
    content.put_slice(body);
    let mut frame = (content.len() as i32).to_be_bytes().to_vec();
    frame.extend(content);
    frame
}

async fn arrive(mut bytes: &[u8]) -> Result<Arrived, Broken> {
    next(&mut bytes, &Arc::new(Semaphore::new(ROOM)), offers).await
}

#[tokio::test]
async fn a_request_is_read_and_answered() {
    // A list with one topic, "ab".
    let frame = frame(ApiKey::Metadata, 1, &[0, 0, 0, 1, 0, 2, b'a', b'b']);
    let Ok(Arrived::Request(call)) = arrive(&frame).await else { panic!("no call") };
    assert_eq!((call.key, call.version, call.client_id.as_str()), (ApiKey::Metadata, 1, "me"));
    let topics = call.read::<MetadataRequest>().unwrap().topics.unwrap();
    assert_eq!(topics[0].name.as_ref().unwrap().to_string(), "ab");
    let answer = encode(ApiKey::ApiVersions, 0, 5, &ApiVersionsResponse::default()).unwrap();
    assert_eq!(answer[..], [0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(arrive(&[]).await, Ok(Arrived::End)));
}

#[tokio::test]
async fn unsupported_versions_are_refused() {
    let asked = arrive(&frame(ApiKey::ApiVersions, 99, &[])).await;
    assert!(matches!(asked, Ok(Arrived::AskedVersions { correlation: 5 })));
    for (key, version) in [(ApiKey::Metadata, 99), (ApiKey::Metadata, -1), (ApiKey::SaslHandshake, 0)] {
        let refused = arrive(&frame(key, version, &[])).await;
        assert!(matches!(refused, Err(Broken::NotOffered { .. })), "{key:?}");
    }
    let mut unknown = frame(ApiKey::Metadata, 1, &[]);
    unknown[4] = 0x7f;
    assert!(matches!(arrive(&unknown).await, Err(Broken::NotOffered { .. })));
}

#[tokio::test]
async fn lengths_are_bounded() {
    for length in [-1, 0, 7, LARGE as i32 + 1, i32::MAX] {
        let refused = arrive(&length.to_be_bytes()).await;
        assert!(matches!(refused, Err(Broken::Length(_))), "{length}");
    }
    let mut large = frame(ApiKey::Metadata, 1, &vec![0; SMALL]);
    assert!(matches!(arrive(&large).await, Err(Broken::Length(_))));
    large = frame(ApiKey::Produce, 3, &vec![0; SMALL]);
    assert!(matches!(arrive(&large).await, Ok(Arrived::Request(_))));
}

#[tokio::test]
async fn a_frame_that_ends_too_early_is_an_error() {
    let whole = frame(ApiKey::Metadata, 1, &[0, 0, 0, 1, 0, 2, b'a', b'b']);
    for length in 4..whole.len() {
        assert!(matches!(arrive(&whole[..length]).await, Err(Broken::Connection(_))), "{length}");
    }
}

#[tokio::test]
async fn an_incomplete_frame_times_out() {
    let (mut client, mut server) = tokio::io::duplex(64);
    tokio::io::AsyncWriteExt::write_all(&mut client, &100_i32.to_be_bytes()).await.unwrap();
    let late = next_within(Duration::ZERO, &mut server, &Arc::new(Semaphore::new(ROOM)), offers).await;
    assert!(matches!(late, Err(Broken::Late)));
}

/// Counts for which a decoder would allocate all memory.
#[tokio::test]
async fn counts_without_items_are_errors() {
    async fn refused<Q: Decodable>(key: ApiKey, version: i16, body: &[u8]) {
        let bytes = frame(key, version, body);
        match arrive(&bytes).await {
            Ok(Arrived::Request(call)) => assert!(call.read::<Q>().is_err(), "{body:?}"),
            other => assert!(other.is_err()),
        }
    }
    let most = i32::MAX.to_be_bytes();
    refused::<MetadataRequest>(ApiKey::Metadata, 1, &most).await;
    refused::<MetadataRequest>(ApiKey::Metadata, 1, &[0, 0, 0, 9]).await;
    refused::<MetadataRequest>(ApiKey::Metadata, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]).await;
    refused::<MetadataRequest>(ApiKey::Metadata, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    let mut produce = vec![0xff, 0xff, 0, 1, 0, 0, 0, 0];
    produce.extend(most);
    refused::<ProduceRequest>(ApiKey::Produce, 3, &produce).await;
    let mut join = vec![0, 1, b'g', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    join.extend(most);
    refused::<JoinGroupRequest>(ApiKey::JoinGroup, 0, &join).await;
}
