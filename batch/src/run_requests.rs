//! Requests for an early run, made when a worker is short of memory: a small object in the warehouse, written anew each
//! time, which the processes that run views watch. A worker has no other way to reach them.
//!
//! Invariant: no answer and no commit depends on a request. A request that is lost is made again: a worker that is
//! short of memory makes one until it is not.

use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use thalweg_schemas::warehouse::Warehouse;
use tokio::sync::Notify;
use uuid::Uuid;

/// How often the object is looked at, and the time before a failed request is made again.
const POLL: Duration = Duration::from_secs(1);

/// Makes a request whenever `short` is notified; ends only by being dropped.
pub async fn request(warehouse: Warehouse, short: Arc<Notify>) {
    let (store, path) = (warehouse.store(), Warehouse::early_path());
    loop {
        short.notified().await;
        // New text each time: a store may keep no time that is finer than a second.
        let request_id = Uuid::new_v4().to_string();
        while let Err(error) = store.put(&path, PutPayload::from(request_id.clone())).await {
            tracing::warn!(%path, %error, "memory is short, and no early run can be asked for");
            tokio::time::sleep(POLL).await;
        }
        tracing::info!("memory is short: an early run was asked for");
    }
}

/// Notifies `wake` of every request that is made from now on; ends only by being dropped.
pub async fn watch(warehouse: Warehouse, wake: Arc<Notify>) {
    let store = warehouse.store();
    let mut known = None;
    loop {
        match look(&store).await {
            Ok(seen) => {
                if known.as_ref().is_some_and(|known| *known != seen) {
                    tracing::info!("a speed worker is short of memory: running now");
                    wake.notify_one();
                }
                known = Some(seen);
            }
            Err(error) => {
                tracing::debug!(%error, "requests for early runs are not seen");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The last request, as far as it differs from others.
type RunRequest = Option<(Option<String>, Option<String>, i64)>;

async fn look(store: &Arc<dyn ObjectStore>) -> object_store::Result<RunRequest> {
    match store.head(&Warehouse::early_path()).await {
        Ok(ObjectMeta { e_tag, version, last_modified, .. }) => {
            Ok(Some((e_tag, version, last_modified.timestamp_nanos_opt().unwrap_or_default())))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Whether `wake` was notified within the time of three looks.
    async fn woken(wake: &Notify) -> bool {
        tokio::time::timeout(3 * POLL, wake.notified()).await.is_ok()
    }

    async fn check(warehouse: Warehouse) {
        let (short, before, wake) = (Arc::<Notify>::default(), Arc::<Notify>::default(), Arc::<Notify>::default());
        // A wish of an earlier time is not one.
        before.notify_one();
        let path = Warehouse::early_path();
        tokio::select! {
            () = request(warehouse.clone(), before) => unreachable!("it does not end"),
            () = async {
                while warehouse.store().head(&path).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            } => {}
        }
        let tasks = [
            tokio::spawn(watch(warehouse.clone(), Arc::clone(&wake))),
            tokio::spawn(request(warehouse.clone(), Arc::clone(&short))),
        ];
        assert!(!woken(&wake).await);
        for _ in 0..2 {
            short.notify_one();
            tokio::time::timeout(LONG, wake.notified()).await.unwrap();
            assert!(!woken(&wake).await, "one wish, one run");
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_wish_wakes_once_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap();
        check(Warehouse::open(url, &BTreeMap::new()).unwrap()).await;
    }

    #[tokio::test]
    async fn a_wish_wakes_once_in_a_store() {
        check(crate::testing::faulty_warehouse().0).await;
    }
}
