//! Claims over a store that fails on request: which writer gets a number, and which outcome follows an error.

use object_store::ObjectStoreExt;
use thalweg_kit::store::{FaultyStore, Trap, Trouble};
use url::Url;

use super::*;

fn claims() -> (Claims, Arc<FaultyStore>) {
    let store = FaultyStore::in_memory();
    let warehouse = Warehouse::over(Url::parse("memory:///").unwrap(), store.clone());
    (Claims::new(&warehouse, Path::from("claims")), store)
}

/// The outcome of `writer`'s attempt to create `number`.
async fn create(claims: &Claims, number: u64, writer: &'static str) -> &'static str {
    let claim = claims.create(number, writer.into(), |found| found == writer.as_bytes()).await;
    match claim.unwrap() {
        Claim::Ours => "ours",
        Claim::Taken => "taken",
        Claim::Failed(_) => "failed",
    }
}

#[tokio::test]
async fn the_first_writer_gets_a_number() {
    let (claims, _) = claims();
    assert_eq!(create(&claims, 1, "a").await, "ours");
    assert_eq!(create(&claims, 1, "b").await, "taken");
    assert_eq!(create(&claims, 2, "b").await, "ours");
    // A writer that finds its own file has succeeded.
    assert_eq!(create(&claims, 1, "a").await, "ours");
    assert_eq!(claims.read(1).await.unwrap().unwrap(), "a");
    assert_eq!(claims.read(3).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_concurrent_writers_gets_a_number() {
    let writers = ["a", "b", "c", "d"];
    let (claims, _) = claims();
    for number in 1..=20 {
        let attempts = writers.map(|writer| {
            let claims = claims.clone();
            tokio::spawn(async move { create(&claims, number, writer).await })
        });
        let mut outcomes: Vec<_> = futures::future::try_join_all(attempts).await.unwrap();
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["ours", "taken", "taken", "taken"]);
    }
}

/// The store's answer does not decide: a 500 or a 412 after the file was written is a success, a 500 before is not.
#[tokio::test]
async fn after_an_error_the_file_decides() {
    for (trap, is_taken, expect) in [
        (&[Trap::LandsAndFails], false, "ours"),
        (&[Trap::LandsAndExists], false, "ours"),
        (&[Trap::Lost], false, "failed"),
        (&[Trap::Lost], true, "taken"),
    ] {
        let (claims, store) = claims();
        if is_taken {
            assert_eq!(create(&claims, 7, "other").await, "ours");
        }
        store.set(Trouble::Traps(trap));
        assert_eq!(create(&claims, 7, "me").await, expect, "{trap:?} {is_taken}");
        let there = claims.read(7).await.unwrap();
        assert_eq!(there.is_some(), expect != "failed", "{trap:?} {is_taken}");
        // A second attempt creates the file only if the first one failed.
        let again = if is_taken { "taken" } else { "ours" };
        assert_eq!(create(&claims, 7, "me").await, again, "{trap:?} {is_taken}");
    }
}

#[tokio::test]
async fn only_numbered_files_count() {
    let (claims, store) = claims();
    assert!(claims.numbers().await.unwrap().is_empty());
    for number in [100_000_000, 2, 10] {
        create(&claims, number, "a").await;
    }
    for name in ["notes.txt", "5.json", "00000007.json.tmp", "-0000008.json"] {
        store.put(&claims.folder().clone().join(name), "x".into()).await.unwrap();
    }
    assert_eq!(claims.numbers().await.unwrap(), [2, 10, 100_000_000]);
    assert_eq!(claims.path(12).as_ref(), "claims/00000012.json");
    for _ in 0..2 {
        claims.remove(10).await.unwrap();
        assert_eq!(claims.numbers().await.unwrap(), [2, 100_000_000]);
    }
}
