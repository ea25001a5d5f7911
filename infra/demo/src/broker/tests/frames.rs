//! Frames that no client sends: recorded frames of a real client, corrupted at every byte.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rdkafka::consumer::CommitMode;

use super::*;

/// The first frame of each key and version.
type Recorded = Arc<Mutex<BTreeMap<(i16, i16), Vec<u8>>>>;

/// A proxy before the broker that records the clients' frames. The proxy's address replaces the broker's in answers.
fn record(broker: SocketAddr) -> (SocketAddr, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, recorded) = (listener.local_addr().unwrap(), Recorded::default());
    let records = Arc::clone(&recorded);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(broker).unwrap();
            let (records, mut from, mut to) =
                (Arc::clone(&records), client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                while let Some(frame) = frame(&mut from) {
                    let field = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
                    records.lock().unwrap().entry((field(4), field(6))).or_insert_with(|| frame.clone());
                    if to.write_all(&frame).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || {
                while let Some(frame) = frame(&mut from) {
                    let ports = [broker, here].map(|address| i32::from(address.port()).to_be_bytes());
                    if to.write_all(&replaced(frame, &ports[0], &ports[1])).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    (here, recorded)
}

fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn replaced(mut bytes: Vec<u8>, old: &[u8; 4], new: &[u8; 4]) -> Vec<u8> {
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..at + 4] == old[..] {
            bytes[at..at + 4].copy_from_slice(new);
        }
    }
    bytes
}

/// Sends these bytes, closes its side, and waits until the broker closes the connection.
fn send(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let mut answer = Vec::new();
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    match sent.and_then(|()| stream.read_to_end(&mut answer)) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no end: {bytes:?}")
        }
        _ => answer,
    }
}

/// Records about one of each request that librdkafka makes.
async fn requests(fixture: &Fixture) -> Vec<Vec<u8>> {
    fixture.create("t", 2).await;
    let (here, recorded) = record(fixture.broker.address());
    let mut config = fixture.consumer();
    config.set("bootstrap.servers", here.to_string()).set("auto.offset.reset", "earliest");
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", here.to_string())
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    for partition in 0..2 {
        producer.send(FutureRecord::<(), _>::to("t").payload("x").partition(partition), WAIT).await.unwrap();
    }
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let deadline = Instant::now() + WAIT;
    let message = loop {
        // A poll ends early when partitions are assigned.
        match consumer.poll(WAIT) {
            Some(Ok(message)) => break message,
            _ => assert!(Instant::now() < deadline, "no message"),
        }
    };
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
    consumer.fetch_watermarks("t", 0, WAIT).unwrap();
    consumer.fetch_group_list(None, WAIT).unwrap();
    drop(message);
    drop(consumer);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", here.to_string()).create().unwrap();
    let topic = NewTopic::new("u", 2, TopicReplication::Fixed(1)).set("retention.ms", "1");
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    admin.delete_topics(&["u"], &AdminOptions::new()).await.unwrap();
    let recorded = recorded.lock().unwrap();
    // Produce, Fetch, ListOffsets, Metadata, commits, groups, versions, topics, producer ids.
    let keys: Vec<i16> = recorded.keys().map(|(key, _)| *key).collect();
    for key in [0, 1, 2, 3, 8, 9, 10, 11, 13, 14, 16, 18, 19, 20, 22] {
        assert!(keys.contains(&key), "{key} of {keys:?}");
    }
    recorded.values().cloned().collect()
}

#[tokio::test]
async fn frames_that_are_broken_end_their_connection_only() {
    let fixture = Fixture::start().await;
    let to = fixture.broker.address();
    for frame in requests(&fixture).await {
        for length in 0..frame.len() {
            // Truncated with the old length, and with a matching length.
            send(to, &frame[..length]);
            if length >= 4 {
                let mut shorter = frame[..length].to_vec();
                shorter[..4].copy_from_slice(&(length as u32 - 4).to_be_bytes());
                send(to, &shorter);
            }
        }
        for at in 0..frame.len() {
            for change in [0x00, 0x7f, 0xff, frame[at] ^ 1] {
                let mut broken = frame.clone();
                broken[at] = change;
                send(to, &broken);
            }
        }
    }
    for noise in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0; 100], &[0xff; 100], b"\x16\x03\x01\x02\x00\x01\x00"]
    {
        send(to, noise);
    }
    fixture.create("after", 1).await;
    fixture.produce("after", &["a"]).await;
    fixture.check("after", &["a"]);
}

#[tokio::test]
async fn random_bytes_in_good_frames() {
    use rand::{Rng, SeedableRng};
    let fixture = Fixture::start().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for key in 0..70_i16 {
        for version in 0..14_i16 {
            let size = random.random_range(0..60);
            let body: Vec<u8> = (0..size).map(|_| random.random()).collect();
            let mut frame = (8 + size as u32).to_be_bytes().to_vec();
            frame.extend(key.to_be_bytes());
            frame.extend(version.to_be_bytes());
            frame.extend(1_i32.to_be_bytes());
            frame.extend(body);
            send(fixture.broker.address(), &frame);
        }
    }
    fixture.create("after", 1).await;
    fixture.check("after", &[]);
}

#[tokio::test]
async fn unknown_versions_are_answered_in_a_known_one() {
    let fixture = Fixture::start().await;
    let frame = [0, 0, 0, 8, 0, 18, 0, 99, 0, 0, 0, 5];
    let answer = send(fixture.broker.address(), &frame);
    // Correlation 5, error 35, and the served versions.
    assert_eq!(answer[4..10], [0, 0, 0, 5, 0, 35]);
    assert_eq!(answer.len(), 4 + 4 + 2 + 4 + 6 * requests::OFFERED.len());
}
