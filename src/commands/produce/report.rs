//! Progress and end of producing, in words.
//!
//! Invariant: pure functions of what was counted.

use std::time::Duration;

use thalweg_client::terminal::grouped;
use thalweg_speed::{ProduceCounts, ProducePlan, Produced};

const MEGABYTE: f64 = 1e6;

/// One line while rows are sent. `recent` rows were sent in the last second.
pub(super) fn progress(counts: &ProduceCounts, recent: u64) -> String {
    let (sent, flight) = (grouped(counts.sent()), grouped(counts.in_flight()));
    let megabytes = counts.bytes() as f64 / MEGABYTE;
    let line = format!("{sent} rows, {megabytes:.1} MB, {}/s, {flight} in flight", grouped(recent));
    match counts.silence() {
        Some(why) => format!("{line}; Kafka: {why}"),
        None => line,
    }
}

/// What was left out.
pub(super) fn skipped(counts: &ProduceCounts) -> Vec<String> {
    let (skips, count) = (counts.skips(), counts.skipped());
    let mut lines: Vec<String> = skips.iter().map(|why| format!("skipped: {why}")).collect();
    if count > skips.len() as u64 {
        lines.push(format!("skipped: {} more", grouped(count - skips.len() as u64)));
    }
    lines
}

/// The last line, and why not all rows were delivered.
pub(super) fn ended(
    plan: &ProducePlan,
    counts: &ProduceCounts,
    produced: Produced,
    took: Duration,
) -> (String, Option<anyhow::Error>) {
    let (topic, file) = (&plan.stream.topic, &plan.from);
    let skipped = match counts.skipped() {
        0 => String::new(),
        rows => format!(", {} skipped", grouped(rows)),
    };
    let amount = format!("{:.1} MB in {:.1} s", counts.bytes() as f64 / MEGABYTE, took.as_secs_f64());
    let readable = match produced.is_committed {
        Some(false) => 0,
        _ => counts.delivered(),
    };
    let line = match plan.dry_run {
        true => format!("{} rows of {file} would be sent to topic `{topic}`{skipped}", grouped(counts.sent())),
        false => format!("delivered {} rows of {file} to topic `{topic}`{skipped}; {amount}", grouped(readable)),
    };
    let place = match (produced.is_committed, counts.last_row()) {
        (Some(false), _) => "the transaction was aborted, so nothing of the file can be read".to_owned(),
        (_, 0) => "nothing was sent".to_owned(),
        (_, last) => format!("the last row that was sent is number {}", grouped(last)),
    };
    let failure = match (produced.failure, produced.lost.as_slice()) {
        (Some(error), _) => Some(anyhow::Error::from(error)).map(|e| match plan.dry_run {
            true => e,
            false => anyhow::anyhow!("{}; {place}", crate::advice::sentence(&e)),
        }),
        (None, [first, rest @ ..]) => {
            let all = rest.iter().fold(first.rows, |sum, loss| sum + loss.rows);
            let reasons: Vec<String> = std::iter::once(first)
                .chain(rest)
                .take(3)
                .map(|loss| format!("{} from number {}: {}", grouped(loss.rows), grouped(loss.first), loss.reason))
                .collect();
            Some(anyhow::anyhow!("{} rows were not delivered ({}); {place}", grouped(all), reasons.join("; ")))
        }
        (None, []) if !produced.is_complete => Some(anyhow::anyhow!("stopped before the end of {file}; {place}")),
        (None, []) => None,
    };
    (line, failure)
}
