//! The law, as a property test through a real Delta round trip. For any events, any cuts, any order and any number of
//! restarts, `finish(merge(batch states below B, realtime states from B to F))` equals one query over all rows below
//! F.
//!
//! Invariant: DataFusion alone computes the expected answer, from SQL, over all rows at once, without the algebra.
//! `LAW_CASES` is the number of random histories, `LAW_SEED` the first of them. A failure prints its seed.

mod answers;
mod history;
mod queries;
mod rows;

use rand::SeedableRng;
use rand::rngs::StdRng;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_gives_the_answer_of_one_query() {
    let cases = setting("LAW_CASES", 300);
    let first = setting("LAW_SEED", 1);
    for seed in first..first + cases {
        let mut rng = StdRng::seed_from_u64(seed);
        let query = queries::random(&mut rng);
        history::check(seed, &mut rng, &query).await;
    }
}

/// Checks each aggregate that CREATE accepts with histories of its own, so that no aggregate depends on chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_aggregate_obeys_the_law() {
    for (i, query) in queries::each_aggregate().into_iter().enumerate() {
        for round in 0..2 {
            let seed = 1_000_000 + 10 * i as u64 + round;
            let mut rng = StdRng::seed_from_u64(seed);
            history::check(seed, &mut rng, &query).await;
        }
    }
}
