//! Where the speed workers are: a list, the addresses of a name, or the members of the streams' consumer groups.
//!
//! Invariant: a look that fails changes nothing: workers that were found are asked until a look finds others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::Catalog;
use thalweg_speed::{SpeedConfig, members};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Stopped;
use crate::config::WorkersAt;

/// How soon a worker that comes or goes is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps `found` up to date until `cancel`. `kafka` is how a group's members are asked for.
pub(super) async fn run(
    at: WorkersAt,
    kafka: SpeedConfig,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    found: watch::Sender<Vec<String>>,
    cancel: CancellationToken,
) -> Result<(), Stopped> {
    let mut trouble = None;
    loop {
        let known = Arc::clone(&catalog.borrow_and_update());
        let looked = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            looked = look(&at, &kafka, &known) => looked,
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
            () = cancel.cancelled() => return Ok(()),
            changed = catalog.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The workers' addresses, in order, none twice.
async fn look(at: &WorkersAt, kafka: &SpeedConfig, catalog: &Catalog) -> Result<Vec<String>, String> {
    let found: BTreeSet<String> = match at {
        WorkersAt::List(addresses) => addresses.iter().cloned().collect(),
        WorkersAt::Dns { host, port } => {
            let name = host.trim_matches(['[', ']']);
            let resolved = tokio::net::lookup_host((name, *port)).await;
            let resolved = resolved.map_err(|e| format!("{host}: {e}"))?;
            resolved.map(|address| address.to_string()).collect()
        }
        WorkersAt::Group => of_groups(kafka, catalog).await?,
    };
    Ok(found.into_iter().collect())
}

/// Members of the groups of all streams.
async fn of_groups(kafka: &SpeedConfig, catalog: &Catalog) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for stream in catalog.streams.values() {
        let (kafka, definition) = (kafka.clone(), stream.definition.clone());
        let asked = tokio::task::spawn_blocking(move || members(&kafka, &definition)).await;
        let asked = asked.map_err(|panic| panic.to_string())?;
        found.extend(asked.map_err(|e| e.to_string())?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_listed_or_resolves_is_found_once_and_in_order() {
        let check = async |at: WorkersAt, expect: &[&str]| {
            let found = look(&at, &SpeedConfig::default(), &Catalog::default()).await;
            assert_eq!(found.unwrap(), expect, "{at:?}");
        };
        let list = |all: &[&str]| WorkersAt::List(all.iter().map(|&w| w.to_owned()).collect());
        let dns = |host: &str| WorkersAt::Dns { host: host.to_owned(), port: 7 };
        check(list(&["b:1", "a:1", "b:1"]), &["a:1", "b:1"]).await;
        check(dns("127.0.0.1"), &["127.0.0.1:7"]).await;
        check(dns("[::1]"), &["[::1]:7"]).await;
        // Without a stream there is no group to ask.
        check(WorkersAt::Group, &[]).await;
        let at = dns("no-such-host.invalid");
        let nowhere = look(&at, &SpeedConfig::default(), &Catalog::default()).await;
        assert!(nowhere.unwrap_err().starts_with("no-such-host.invalid: "));
    }

    #[tokio::test]
    async fn workers_are_kept_while_a_look_fails() {
        let (_catalogs, catalog) = watch::channel(Arc::new(Catalog::default()));
        let (found, seen) = watch::channel(vec!["a:1".to_owned()]);
        let cancel = CancellationToken::new();
        let at = WorkersAt::Dns { host: "no-such-host.invalid".to_owned(), port: 7 };
        let running = tokio::spawn(run(at, SpeedConfig::default(), catalog, found, cancel.clone()));
        tokio::task::yield_now().await;
        cancel.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(*seen.borrow(), ["a:1"]);
    }
}
