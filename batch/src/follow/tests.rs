//! Following a warehouse that other processes write.

use thalweg_kit::definitions::view;
use thalweg_kit::positions::at;
use thalweg_kit::world::faulty_warehouse;
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::realtime::epoch::EpochOutcome;

use super::*;
use crate::run::{BatchConfig, run_view};
use crate::testing::{catalog, measured, stream};

const LONG: Duration = Duration::from_secs(60);
const OVERALL: &str = "SELECT count(*) AS n FROM sensor_data";

async fn commit(archive: &mut Archive, from: &[(i32, i64)], to: &[(i32, i64)]) {
    let outcome = archive.commit(&measured(from, to, true)).await.unwrap();
    assert!(matches!(outcome, EpochOutcome::Landed(_)), "{outcome:?}");
}

/// Waits until the stream's newest version is at `frontier`.
async fn stands(masters: &mut watch::Receiver<Arc<Masters>>, frontier: &[(i32, i64)]) {
    let there = masters.wait_for(|masters| {
        let version = masters.get(&stream().name);
        version.is_some_and(|version| version.frontier == at(frontier))
    });
    tokio::time::timeout(LONG, there).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_processes_are_announced() {
    let (warehouse, _) = faulty_warehouse();
    let known = catalog(&[(0, 0)], &[("overall", OVERALL)]).await;
    let (definitions, watched) = watch::channel(Arc::new(known.clone()));
    let (masters_sender, mut masters) = watch::channel(Arc::default());
    let (published_sender, mut published) = watch::channel(Arc::default());
    let cancel = CancellationToken::new();
    let following = tokio::spawn(futures::future::join(
        follow_masters(warehouse.clone(), watched.clone(), masters_sender, cancel.clone()),
        follow_published(warehouse.clone(), watched, published_sender, cancel.clone()),
    ));

    // Following does not create the table; the first archive does.
    let definition = known.streams[&stream().name].definition.clone();
    let mut archive = Archive::open(&warehouse, &definition, at(&[(0, 0)])).await.unwrap();
    stands(&mut masters, &[(0, 0)]).await;
    commit(&mut archive, &[(0, 0)], &[(0, 9)]).await;
    stands(&mut masters, &[(0, 9)]).await;

    // A new partition starts at the offset in the catalog.
    let grown = catalog(&[(0, 0), (1, 5)], &[("overall", OVERALL)]).await;
    definitions.send_replace(Arc::new(grown));
    stands(&mut masters, &[(0, 9), (1, 5)]).await;

    let (view, folder) = (view(&known, "overall"), tempfile::tempdir().unwrap());
    let config = BatchConfig { spill: folder.path().to_owned(), ..BatchConfig::default() };
    run_view(&warehouse, &known, &view, RunMode::Full, &config, |_| ()).await.unwrap();
    let there = published.wait_for(|published| published.versions.contains_key(view.plan.id()));
    tokio::time::timeout(LONG, there).await.unwrap().unwrap();

    // Dropped definitions have no versions.
    definitions.send_replace(Arc::default());
    let gone = masters.wait_for(|masters| masters.is_empty());
    tokio::time::timeout(LONG, gone).await.unwrap().unwrap();
    let gone = published.wait_for(|published| published.versions.is_empty());
    tokio::time::timeout(LONG, gone).await.unwrap().unwrap();

    cancel.cancel();
    let (of_masters, of_views) = following.await.unwrap();
    of_masters.unwrap();
    of_views.unwrap();
}
