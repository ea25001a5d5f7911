//! Requests for an early run, from a worker that is short of memory. A request rewrites a small object in the
//! warehouse, which the processes that run views poll. A worker has no other connection to these processes.
//!
//! Invariant: no answer and no commit depends on a request. A lost request is repeated, because a worker makes
//! requests until it has enough memory.

use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use thalweg_schemas::warehouse::Warehouse;
use tokio::sync::Notify;
use uuid::Uuid;

/// Time between two polls of the object, and the pause before a failed request is repeated.
pub const POLL: Duration = Duration::from_secs(1);

/// Makes a request whenever `short` is notified. Never returns.
pub async fn request(warehouse: Warehouse, short: Arc<Notify>, poll: Duration) {
    loop {
        short.notified().await;
        write(&warehouse, poll).await;
        tracing::info!("memory is short: an early run was asked for");
    }
}

async fn write(warehouse: &Warehouse, poll: Duration) {
    let (store, path) = (warehouse.store(), Warehouse::early_path());
    // The text is new each time, because a store may keep times only to the second.
    let request_id = Uuid::new_v4().to_string();
    while let Err(error) = store.put(&path, PutPayload::from(request_id.clone())).await {
        tracing::warn!(%path, %error, "memory is short, and no early run can be asked for");
        tokio::time::sleep(poll).await;
    }
}

/// Notifies `wake` of every new request. Never returns.
pub async fn watch(warehouse: Warehouse, wake: Arc<Notify>, poll: Duration) {
    let store = warehouse.store();
    let mut known = None;
    loop {
        match is_new(&store, &mut known).await {
            Ok(true) => {
                tracing::info!("a speed worker is short of memory: running now");
                wake.notify_one();
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "requests for early runs are not seen"),
        }
        tokio::time::sleep(poll).await;
    }
}

/// True if there was a request since the last call. The first call only records the last request.
async fn is_new(store: &Arc<dyn ObjectStore>, known: &mut Option<RunRequest>) -> object_store::Result<bool> {
    let seen = look(store).await?;
    let is_new = known.as_ref().is_some_and(|known| *known != seen);
    *known = Some(seen);
    Ok(is_new)
}

/// Identifies a request by its ETag, version and time.
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
    const SHORT: Duration = Duration::from_millis(20);

    async fn check(warehouse: Warehouse) {
        let (store, mut known) = (warehouse.store(), None);
        // An earlier request does not count.
        write(&warehouse, SHORT).await;
        for _ in 0..2 {
            assert!(!is_new(&store, &mut known).await.unwrap());
        }
        for _ in 0..2 {
            write(&warehouse, SHORT).await;
            assert!(is_new(&store, &mut known).await.unwrap());
            assert!(!is_new(&store, &mut known).await.unwrap(), "one request, one run");
        }

        let (short, wake) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let tasks = [
            tokio::spawn(watch(warehouse.clone(), Arc::clone(&wake), SHORT)),
            tokio::spawn(request(warehouse.clone(), Arc::clone(&short), SHORT)),
        ];
        // A request before the first poll is lost, so a worker repeats its request.
        let heard = async {
            loop {
                short.notify_one();
                if tokio::time::timeout(3 * SHORT, wake.notified()).await.is_ok() {
                    break;
                }
            }
        };
        tokio::time::timeout(LONG, heard).await.unwrap();
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_request_wakes_once_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap();
        check(Warehouse::open(url, &BTreeMap::new()).unwrap()).await;
    }

    #[tokio::test]
    async fn a_request_wakes_once_in_a_store() {
        check(thalweg_kit::world::warehouse_in_memory()).await;
    }
}
