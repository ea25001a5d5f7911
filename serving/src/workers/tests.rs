//! Unreachable workers: their cost, and the messages about them. Tests with real workers are in `tests/it/flight/`.

use std::net::TcpListener as Silent;

use thalweg_schemas::StreamName;

use super::*;

fn request() -> PinRequest {
    PinRequest {
        stream: StreamName::new("s").unwrap(),
        definition: String::new(),
        views: BTreeMap::new(),
        rows: None,
        keep_ms: 1000,
        stale: false,
    }
}

fn workers(addresses: &[&str], config: WorkersConfig) -> (watch::Sender<Vec<String>>, Workers) {
    let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
    let (sender, receiver) = watch::channel(addresses);
    (sender, Workers::new(receiver, config))
}

async fn reasons(workers: &Workers) -> Vec<String> {
    let asked = workers.pin(request()).await;
    asked.into_iter().map(|a| a.pin.unwrap_err()).collect()
}

#[tokio::test]
async fn a_worker_that_never_answers_costs_its_time_once() {
    let silent = Silent::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let config = WorkersConfig { ask_within: Duration::from_secs(2), ..WorkersConfig::default() };
    let (_sender, workers) = workers(&[&address], config);
    let started = Instant::now();
    assert!(reasons(&workers).await[0].contains("does not answer"));
    assert!(started.elapsed() >= Duration::from_secs(2));
    let started = Instant::now();
    for _ in 0..10 {
        assert!(reasons(&workers).await[0].contains("does not answer"));
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn nobody_and_nonsense_are_named() {
    let closed = Silent::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = closed.to_string();
    let (sender, workers) = workers(&[&closed, "not an address"], WorkersConfig::default());
    let said = reasons(&workers).await;
    assert!(said[0].contains("does not answer: Connection refused"), "{said:?}");
    assert!(said[1].contains("write HOST:PORT"), "{said:?}");
    assert!(workers.statuses().await.iter().all(|(_, status)| status.is_err()));
    sender.send_replace(Vec::new());
    assert!(reasons(&workers).await.is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_none_is_named() {
    let config = WorkersConfig {
        tls_ca: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
        ..WorkersConfig::default()
    };
    let (_sender, workers) = workers(&["127.0.0.1:1"], config);
    let said = reasons(&workers).await;
    assert!(said[0].contains("does not answer") || said[0].contains("cannot be asked"), "{said:?}");
}
