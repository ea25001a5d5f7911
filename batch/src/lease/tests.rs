//! Leases over a store: who gets a lease, who loses a lease, and which files remain.

use object_store::ObjectStoreExt;

use super::file::LeaseState;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::faulty_warehouse;

use super::*;

fn view() -> ViewId {
    serde_json::from_str("\"0123456789abcdef0123456789abcdef\"").unwrap()
}

async fn mine(warehouse: &Warehouse, clock: &WallClock) -> Lease {
    match take(warehouse, &view(), clock).await.unwrap() {
        Taken::Mine(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// The id of the lease's holder, from a refused request.
async fn held(warehouse: &Warehouse, clock: &WallClock) -> Uuid {
    match take(warehouse, &view(), clock).await.unwrap() {
        Taken::Held { holder, .. } => holder.id,
        Taken::Mine(_) => panic!("nobody held it"),
    }
}

async fn files(lease: &Lease) -> Vec<u64> {
    lease.leases.numbers().await.unwrap()
}

/// Longer than the time after which another process takes an unrenewed lease.
const OVER: Duration = Duration::from_secs(40);

#[tokio::test]
async fn one_at_a_time() {
    let (warehouse, _) = faulty_warehouse();
    let clock = WallClock::manual();
    let mut first = mine(&warehouse, &clock).await;
    assert_eq!(held(&warehouse, &clock).await, first.me.id);
    // With repeated renewals the lease never ends, and one file remains.
    for _ in 0..5 {
        clock.advance(RENEW);
        assert_eq!(first.renew().await.unwrap(), Renewal::Yes);
        assert_eq!(held(&warehouse, &clock).await, first.me.id);
        assert_eq!(files(&first).await.len(), 1);
    }
    first.release().await;
    let second = mine(&warehouse, &clock).await;
    assert_eq!(files(&second).await.len(), 1);
    second.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_takers_one_wins() {
    for _ in 0..20 {
        let (warehouse, _) = faulty_warehouse();
        let clock = WallClock::manual();
        let takers = (0..4).map(|_| {
            let (warehouse, clock) = (warehouse.clone(), clock.clone());
            tokio::spawn(async move { take(&warehouse, &view(), &clock).await.unwrap() })
        });
        let taken = futures::future::join_all(takers).await;
        let taken: Vec<Taken> = taken.into_iter().map(Result::unwrap).collect();
        let winner = taken.iter().find_map(|taken| match taken {
            Taken::Mine(lease) => Some(lease.me.id),
            Taken::Held { .. } => None,
        });
        let winner = winner.unwrap();
        let others = taken.iter().filter(|taken| match taken {
            Taken::Held { holder, .. } => holder.id == winner,
            Taken::Mine(_) => false,
        });
        assert_eq!(others.count(), 3, "{taken:?}");
    }
}

#[tokio::test]
async fn a_late_holder_is_replaced_and_learns_it() {
    let (warehouse, _) = faulty_warehouse();
    let clock = WallClock::manual();
    let mut stopped = mine(&warehouse, &clock).await;
    clock.advance(LASTS);
    // Within the allowed difference of clocks, nobody takes the lease.
    assert_eq!(held(&warehouse, &clock).await, stopped.me.id);
    clock.advance(OVER);
    let mut next = mine(&warehouse, &clock).await;
    // However often the new holder renewed: files with the old holder's next numbers may be gone again.
    for _ in 0..3 {
        let (by, until) = match stopped.renew().await.unwrap() {
            Renewal::Lost(Some(by)) => by,
            other => panic!("{other:?}"),
        };
        assert_eq!(by.id, next.me.id);
        assert!(until > clock.now_ms());
        assert_eq!(next.renew().await.unwrap(), Renewal::Yes);
    }
    // Releasing a lost lease does not take it from its new holder.
    stopped.leases.clone().release(&stopped.me).await;
    assert_eq!(held(&warehouse, &clock).await, next.me.id);
    next.release().await;
    assert_eq!(stopped.renew().await.unwrap(), Renewal::Lost(None));
}

#[tokio::test]
async fn a_late_holder_keeps_a_lease_that_nobody_took() {
    let (warehouse, _) = faulty_warehouse();
    let clock = WallClock::manual();
    let mut late = mine(&warehouse, &clock).await;
    clock.advance(OVER);
    assert_eq!(late.renew().await.unwrap(), Renewal::Yes);
    assert_eq!(held(&warehouse, &clock).await, late.me.id);
}

#[tokio::test]
async fn cancelled_work_releases_the_lease() {
    let (warehouse, _) = faulty_warehouse();
    let clock = WallClock::manual();
    let lease = mine(&warehouse, &clock).await;
    let leases = lease.leases.clone();
    drop(lease);
    let released = async {
        loop {
            let (_, file) = leases.newest().await.unwrap().unwrap();
            if judge(Some(&file), Uuid::nil(), clock.now_ms(), false) == LeaseState::Free {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, released).await.unwrap();
}

#[tokio::test]
async fn a_write_that_landed_with_an_error_is_recognised() {
    let (warehouse, store) = faulty_warehouse();
    let clock = WallClock::manual();
    for (after, taken) in [(true, true), (false, false)] {
        store.set(Trouble::Fail { part: "leases/", after, times: 1 });
        let outcome = take(&warehouse, &view(), &clock).await;
        assert_eq!(outcome.is_ok(), taken, "{outcome:?}");
        if let Ok(Taken::Mine(lease)) = outcome {
            lease.release().await;
        }
    }
    mine(&warehouse, &clock).await.release().await;
}

#[tokio::test]
async fn an_unreadable_lease_blocks_nobody() {
    let (warehouse, _) = faulty_warehouse();
    let clock = WallClock::manual();
    let folder = Warehouse::lease_path(&view());
    for (name, text) in [("00000004.json", "{"), ("notes.txt", "x"), ("5.json", "{}")] {
        let path = folder.clone().join(name);
        warehouse.store().put(&path, text.into()).await.unwrap();
    }
    let lease = mine(&warehouse, &clock).await;
    assert_eq!(lease.number, 5);
    lease.release().await;
}
