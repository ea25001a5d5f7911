//! The archive's loop: failures that it survives, and how it ends.

use thalweg_schemas::Fault;
use thalweg_schemas::realtime::epoch::EpochRequest;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{all_below, landed, open};
use crate::archive::serve;
use crate::testing::{epoch, positions};

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_survives_storage_failures_and_ends_with_its_senders() {
    let (warehouse, store) = faulty_warehouse();
    let mut archive = open(&warehouse).await;
    let (versions, watched) = watch::channel(archive.latest().await.unwrap());
    let (requests, receiver) = mpsc::channel(4);
    let (failure, failing) = watch::channel(None);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(serve(archive, receiver, versions, failure, |_| (), cancel));
    store.set(Trouble::Fail { part: "_delta_log", after: true, times: 6 });
    let mut replies = Vec::new();
    for offset in 0..3 {
        let (reply, outcome) = oneshot::channel();
        let epoch = epoch(&[(0, offset)], &[(0, offset + 1)], false);
        requests.send(EpochRequest { epoch, reply }).await.unwrap();
        replies.push(outcome);
    }
    drop(requests);
    for reply in replies {
        landed(reply.await.unwrap());
    }
    running.await.unwrap().unwrap();
    assert_eq!(*failing.borrow(), None);
    let version = watched.borrow().clone();
    assert_eq!(version.frontier, at(&[(0, 3), (1, 5)]));
    assert_eq!(positions(&warehouse, &version.files).await, all_below(&[], &[(0, 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_gives_up_when_cancelled_and_drops_the_reply() {
    let (warehouse, store) = faulty_warehouse();
    let mut archive = open(&warehouse).await;
    let (versions, _watched) = watch::channel(archive.latest().await.unwrap());
    let (requests, receiver) = mpsc::channel(4);
    let cancel = CancellationToken::new();
    store.set(Trouble::Fail { part: "rows-", after: false, times: 1000 });
    let (failure, mut failing) = watch::channel(None);
    let running = tokio::spawn(serve(archive, receiver, versions, failure, |_| (), cancel.clone()));
    let (reply, outcome) = oneshot::channel();
    let epoch = epoch(&[(0, 0)], &[(0, 1)], false);
    requests.send(EpochRequest { epoch, reply }).await.unwrap();
    let said = failing.wait_for(Option::is_some).await.unwrap().clone();
    assert!(said.unwrap().contains("rows-"));
    cancel.cancel();
    assert!(outcome.await.is_err());
    assert_eq!(running.await.unwrap().unwrap_err().fault(), Fault::Transient);
}
use thalweg_kit::positions::at;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::faulty_warehouse;
