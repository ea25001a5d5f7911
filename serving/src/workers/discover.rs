//! Finds the speed workers: by a list, the addresses of a DNS name, or the members of the streams' consumer groups.
//!
//! Invariant: a failed lookup changes nothing; known workers stay in use until a lookup finds others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::Catalog;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Pause between two lookups, and so the delay until a new or removed worker is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// The source of a replica's worker addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkersAt {
    /// A fixed list, each HOST:PORT.
    List(Vec<String>),
    /// Every address of the DNS name, for example of a headless service.
    Dns { host: String, port: u16 },
    /// The members of the streams' consumer groups.
    Group,
}

/// Keeps `found` up to date until `cancel`. `members` queries the consumer groups of a catalog's streams for their
/// members.
pub async fn discover<Asked: Future<Output = Result<BTreeSet<String>, String>>>(
    at: WorkersAt,
    members: impl Fn(Arc<Catalog>) -> Asked,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    found: watch::Sender<Vec<String>>,
    cancel: CancellationToken,
) {
    let mut trouble = None;
    loop {
        let known = Arc::clone(&catalog.borrow_and_update());
        let looked = tokio::select! {
            () = cancel.cancelled() => return,
            looked = look(&at, &members, known) => looked,
        };
        match looked {
            Ok(addresses) => {
                trouble = None;
                found.send_if_modified(|shown| {
                    let news = *shown != addresses;
                    if news {
                        info!(workers = ?addresses, "speed workers");
                        *shown = addresses;
                    }
                    news
                });
            }
            Err(reason) => {
                if trouble.as_ref() != Some(&reason) {
                    warn!("speed workers cannot be looked for: {reason}");
                }
                trouble = Some(reason);
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Looks the workers' addresses up; sorted, without duplicates.
async fn look<Asked: Future<Output = Result<BTreeSet<String>, String>>>(
    at: &WorkersAt,
    members: &impl Fn(Arc<Catalog>) -> Asked,
    catalog: Arc<Catalog>,
) -> Result<Vec<String>, String> {
    let found: BTreeSet<String> = match at {
        WorkersAt::List(addresses) => addresses.iter().cloned().collect(),
        WorkersAt::Dns { host, port } => {
            let name = host.trim_matches(['[', ']']);
            let resolved = tokio::net::lookup_host((name, *port)).await;
            let resolved = resolved.map_err(|e| format!("{host}: {e}"))?;
            resolved.map(|address| address.to_string()).collect()
        }
        WorkersAt::Group => members(catalog).await?,
    };
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn what_is_listed_or_resolves_is_found_once_and_in_order() {
        let members = |_: Arc<Catalog>| ready(Ok(["b:1", "a:1"].map(str::to_owned).into()));
        let look = async |at: &WorkersAt| look(at, &members, Arc::default()).await;
        let check = async |at: WorkersAt, expect: &[&str]| {
            assert_eq!(look(&at).await.unwrap(), expect, "{at:?}");
        };
        let list = |all: &[&str]| WorkersAt::List(all.iter().map(|&w| w.to_owned()).collect());
        let dns = |host: &str| WorkersAt::Dns { host: host.to_owned(), port: 7 };
        check(list(&["b:1", "a:1", "b:1"]), &["a:1", "b:1"]).await;
        check(dns("127.0.0.1"), &["127.0.0.1:7"]).await;
        check(dns("[::1]"), &["[::1]:7"]).await;
        check(WorkersAt::Group, &["a:1", "b:1"]).await;
        let nowhere = look(&dns("no-such-host.invalid")).await;
        assert!(nowhere.unwrap_err().starts_with("no-such-host.invalid: "));
    }

    #[tokio::test]
    async fn workers_are_kept_while_a_look_fails() {
        let (_catalogs, catalog) = watch::channel(Arc::default());
        let (found, seen) = watch::channel(vec!["a:1".to_owned()]);
        let (asked, mut looks) = watch::channel(0);
        let members = move |_| {
            asked.send_modify(|looks| *looks += 1);
            ready(Err("no broker".to_owned()))
        };
        let cancel = CancellationToken::new();
        let running = tokio::spawn(discover(WorkersAt::Group, members, catalog, found, cancel.clone()));
        looks.changed().await.unwrap();
        cancel.cancel();
        running.await.unwrap();
        assert_eq!(*seen.borrow(), ["a:1"]);
    }
}
