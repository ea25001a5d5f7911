//! The chosen worker, and the answers that are not trusted.

use thalweg_kit::positions::at;

use super::*;

const VIEW: &str = "\"0123456789abcdef0123456789abcdef\"";

fn view() -> ViewId {
    serde_json::from_str(VIEW).unwrap()
}

fn held(ranges: &[(i64, i64)]) -> Coverage {
    let ranges = ranges.iter().map(|(a, b)| (Offset(*a), Offset(*b)));
    Coverage::Ranges(ranges.collect())
}

/// Partition, F, caught up, the view's ranges.
type Part<'a> = (i32, i64, bool, &'a [(i64, i64)]);

fn answer(parts: &[Part<'_>]) -> PinAnswer {
    let parts = parts.iter().map(|(p, frontier, caught_up, ranges)| {
        let pinned = PinnedPartition {
            frontier: Offset(*frontier),
            caught_up: *caught_up,
            lag: 3,
            waiting: None,
            views: BTreeMap::from([(view(), held(ranges))]),
            states: BTreeMap::new(),
            rows: None,
        };
        (Partition(*p), pinned)
    });
    PinAnswer {
        pin: "p".into(),
        worker: "w".into(),
        partitions: parts.collect(),
        reason: None,
        stopped: None,
        failed: BTreeMap::new(),
    }
}

/// S is 5 in partitions 0 and 1, the only ones that exist.
fn needs() -> Requirements {
    Requirements {
        origin: at(&[(0, 0), (1, 0)]),
        views: BTreeMap::from([(view(), at(&[(0, 5), (1, 5)]))]),
        ..Requirements::default()
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn decide(needs: &Requirements, answers: &[PinAnswer]) -> WorkerChoice {
    let answers: Vec<_> = NAMES.into_iter().zip(answers.iter().map(Ok)).collect();
    choose_workers(needs, &answers)
}

/// Checks the choice for the workers' answers: the share of each chosen worker, and the unheld partitions with a part
/// of the reason.
#[track_caller]
fn check(needs: &Requirements, answers: &[&[Part<'_>]], shares: &[(usize, &[(i32, i64)])], unheld: &[(i32, &str)]) {
    let answers: Vec<PinAnswer> = answers.iter().map(|parts| answer(parts)).collect();
    let chosen = decide(needs, &answers);
    let expected: BTreeMap<usize, Frontier> = shares.iter().map(|(i, share)| (*i, at(share))).collect();
    assert_eq!(chosen.shares, expected, "{chosen:?}");
    let union = expected.values().fold(Frontier::new(), |all, share| all.max(share));
    assert_eq!(chosen.frontier, union);
    let partitions: Vec<i32> = chosen.unheld.keys().map(|p| p.0).collect();
    let wanted: Vec<i32> = unheld.iter().map(|(p, _)| *p).collect();
    assert_eq!(partitions, wanted, "{chosen:?}");
    for ((_, part), reason) in unheld.iter().zip(chosen.unheld.values()) {
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn each_partition_comes_from_the_worker_that_is_furthest() {
    let both: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 8, true, &[(5, 6), (6, 8)])];
    check(&needs(), &[both], &[(0, &[(0, 9), (1, 8)])], &[]);
    let apart: [&[Part<'_>]; 2] = [&[(0, 9, true, &[(5, 9)])], &[(1, 5, true, &[])]];
    check(&needs(), &apart, &[(0, &[(0, 9)]), (1, &[(1, 5)])], &[]);
    // A zombie that has stopped reading, listed before and after the worker that reads.
    let zombie: &[Part<'_>] = &[(0, 7, true, &[(5, 7)])];
    check(&needs(), &[zombie, both], &[(1, &[(0, 9), (1, 8)])], &[]);
    check(&needs(), &[both, zombie], &[(0, &[(0, 9), (1, 8)])], &[]);
}

#[test]
fn what_does_not_tile_is_not_believed() {
    let other: Part<'_> = (1, 5, true, &[]);
    let share: &[(usize, &[(i32, i64)])] = &[(0, &[(1, 5)])];
    let refuse = |part: Part<'_>, reason| check(&needs(), &[&[part, other]], share, &[(0, reason)]);
    refuse((0, 9, true, &[(5, 7), (8, 9)]), "does not tile 5..9");
    refuse((0, 9, true, &[(5, 8), (7, 9)]), "does not tile 5..9");
    refuse((0, 9, true, &[(4, 9)]), "does not tile 5..9");
    refuse((0, 9, true, &[(5, 8)]), "does not tile 5..9");
    refuse((0, 9, true, &[(5, 10)]), "does not tile 5..9");
    refuse((0, 9, true, &[]), "does not tile 5..9");
    refuse((0, 4, true, &[]), "does not tile 5..4");
    refuse((0, 9, false, &[(5, 9)]), "3 messages are left");
    // A forged answer with a higher F does not win over an honest one.
    let forged: &[Part<'_>] = &[(0, 99, true, &[(5, 98)]), other];
    let honest: &[Part<'_>] = &[(0, 9, true, &[(5, 9)])];
    check(&needs(), &[forged, honest], &[(0, &[(1, 5)]), (1, &[(0, 9)])], &[]);
}

#[test]
fn partitions_that_nobody_names_are_missed_whoever_knows_them() {
    let one: &[Part<'_>] = &[(0, 9, true, &[(5, 9)])];
    check(&needs(), &[one], &[(0, &[(0, 9)])], &[(1, "no worker reads it")]);
    // A partition that only a worker knows.
    let grown: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 5, true, &[]), (2, 3, false, &[(0, 3)])];
    check(&needs(), &[grown], &[(0, &[(0, 9), (1, 5)])], &[(2, "catching up")]);
    // A partition that only the cut knows.
    let mut cut = needs();
    cut.views.insert(view(), at(&[(0, 5), (1, 5), (4, 8)]));
    let both: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 5, true, &[])];
    check(&cut, &[both], &[(0, &[(0, 9), (1, 5)])], &[(4, "no worker reads it")]);
}

#[test]
fn nothing_is_answered_below_the_floor() {
    let both: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 5, true, &[])];
    let mut given = needs();
    given.lowest.given = at(&[(0, 10)]);
    check(&given, &[both], &[(0, &[(1, 5)])], &[(0, "below 10 which was already answered")]);
    let mut asked = needs();
    asked.lowest.asked = at(&[(1, 6), (7, 1), (8, 0)]);
    let reasons = [(1, "below 6 which the request asks for"), (7, "no worker reads it")];
    check(&asked, &[both], &[(0, &[(0, 9)])], &reasons);
}

#[test]
fn a_worker_that_waits_for_kafka_says_so() {
    let mut waiting = answer(&[(0, 9, false, &[(5, 9)]), (1, 5, true, &[])]);
    waiting.partitions.get_mut(&Partition(0)).unwrap().waiting = Some("no broker is connected".into());
    let reason = &decide(&needs(), &[waiting]).unheld[&Partition(0)];
    assert!(reason.contains("waits for Kafka (no broker is connected); send the header `thalweg-stale"), "{reason}");
}

#[test]
fn silence_and_refusals_are_named() {
    let mut refusing = answer(&[]);
    refusing.reason = Some("it knows another definition of stream `s`".into());
    let reading = answer(&[(0, 9, true, &[(5, 9)])]);
    let answers = [("a", Ok(&reading)), ("b", Err("does not answer")), ("c", Ok(&refusing))];
    let chosen = choose_workers(&needs(), &answers);
    let reason = &chosen.unheld[&Partition(1)];
    assert!(reason.contains("worker b does not answer"), "{reason}");
    assert!(reason.contains("worker c: it knows another definition"), "{reason}");
    let none = choose_workers(&needs(), &[]);
    assert_eq!(describe_unheld(&none.unheld), "partitions 0, 1: no worker is known");
}

#[test]
fn views_and_rows_must_all_be_held() {
    let mut needs = needs();
    needs.rows = Some(at(&[(0, 7), (1, 5)]));
    let mut whole = answer(&[(0, 9, true, &[(5, 9)]), (1, 5, true, &[])]);
    let without_rows = decide(&needs, std::slice::from_ref(&whole));
    assert!(without_rows.unheld[&Partition(0)].contains("does not hold the rows"));
    let rows = [(0, held(&[(7, 9)])), (1, held(&[]))];
    for (p, rows) in rows {
        whole.partitions.get_mut(&Partition(p)).unwrap().rows = Some(rows);
    }
    assert!(decide(&needs, std::slice::from_ref(&whole)).unheld.is_empty());
    for part in whole.partitions.values_mut() {
        part.views.clear();
    }
    assert_eq!(decide(&needs, &[whole]).unheld.len(), 2);
}

#[test]
fn partial_answers_stand_at_the_one_start_or_are_refused() {
    let one = answer(&[(0, 9, true, &[(5, 9)])]);
    let fill = |needs: &Requirements| partial_frontier(needs, &decide(needs, std::slice::from_ref(&one)));
    assert_eq!(fill(&needs()), Ok(at(&[(1, 5)])));
    let mut lower = needs();
    lower.lowest.given = at(&[(1, 8)]);
    assert_eq!(fill(&lower), Ok(at(&[(1, 5)])));
    let mut asked = needs();
    asked.lowest.asked = at(&[(1, 8)]);
    assert!(fill(&asked).unwrap_err().contains("below 8"));
    let other: ViewId = serde_json::from_str("\"fedcba9876543210fedcba9876543210\"").unwrap();
    let mut two = needs();
    two.views.insert(other, at(&[(0, 5), (1, 6)]));
    assert!(fill(&two).unwrap_err().contains("5 and 6"));
}

#[test]
fn a_client_that_allows_stale_answers_gets_what_is_held() {
    let given = LowestFrontier { given: at(&[(0, 9)]), asked: Frontier::new() };
    let check = |allow_stale, asked: &[(i32, i64)], parts: &[Part<'_>], expect: Option<bool>| {
        let lowest = LowestFrontier { asked: at(asked), ..given.clone() };
        let needs = Requirements { lowest, allow_stale, ..needs() };
        let chosen = decide(&needs, &[answer(parts)]);
        let found = chosen.unheld.is_empty().then_some(chosen.stale);
        assert_eq!(found, expect, "{allow_stale} {asked:?} {parts:?}: {chosen:?}");
    };
    let fresh: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 8, true, &[(5, 8)])];
    let behind: &[Part<'_>] = &[(0, 9, true, &[(5, 9)]), (1, 8, false, &[(5, 8)])];
    let below: &[Part<'_>] = &[(0, 8, true, &[(5, 8)]), (1, 8, true, &[(5, 8)])];
    let torn: &[Part<'_>] = &[(0, 9, true, &[(6, 9)]), (1, 8, true, &[(5, 8)])];
    check(false, &[], fresh, Some(false));
    check(true, &[], fresh, Some(false));
    check(false, &[], behind, None);
    check(true, &[], behind, Some(true));
    check(false, &[], below, None);
    check(true, &[], below, Some(true));
    check(true, &[(0, 9)], below, None);
    check(true, &[], torn, None);
}
