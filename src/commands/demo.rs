//! `thalweg demo`: sends the demo's messages to any Kafka.
//!
//! Invariant: every message in the final report was acknowledged by Kafka, also after a signal.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use thalweg_client::terminal;
use thalweg_demo::DemoStream;
use thalweg_demo::generator::{Plan, Rate, Summary};
use thalweg_demo::streams::{Faults, TimeSource};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::flags::{self, Usage};
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  thalweg demo --kafka bootstrap.servers=localhost:9092
  thalweg demo --kafka bootstrap.servers=localhost:9092 --rate 50k/s --streams stock_prices --count 1000000
  thalweg demo --kafka bootstrap.servers=localhost:9092 --late 10% --duplicates 5% --malformed 1% --seed 7
  thalweg demo --definitions > demo.sql

With `thalweg up --kafka bootstrap.servers=localhost:9092 --apply demo.sql` the views are kept. The first events are of an
hour ago; after a minute event time follows the clock. `--event-time messages` is for the same events again: at 2000/s of
all streams a minute passes in a second. `thalweg up --demo` does all of it by itself.";

/// The effect of a second signal, for its message.
const LOST: &str = "what became of the last messages is not known";
const SHOW: Duration = Duration::from_secs(1);

/// Send the demo's messages to a Kafka of yours: sensors, logins, trades
///
/// Topics that are missing are created. Runs until Ctrl-C, or to --count; started again, it goes on where the topics
/// end.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Property of librdkafka, as bootstrap.servers=HOST:PORT; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = flags::parse_pair)]
    kafka: Vec<(String, String)>,
    /// Which streams [default: sensor_data,login_attempts,stock_prices]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    streams: Vec<DemoStream>,
    /// How fast, all streams together: 2000/s, 50k/s, 30/m, or max
    #[arg(long, value_name = "RATE", default_value = "2000/s")]
    rate: Rate,
    /// What drives the time of events: clock, or messages
    #[arg(long, value_name = "SOURCE", default_value = "clock")]
    event_time: TimeSource,
    /// The same seed gives the same messages, up to their times if the clock drives these
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Share of events that come a minute to an hour late
    #[arg(long, value_name = "SHARE", default_value = "2%", value_parser = parse_share)]
    late: f64,
    /// Share of messages that repeat an earlier one
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = parse_share)]
    duplicates: f64,
    /// Share of messages that cannot be decoded
    #[arg(long, value_name = "SHARE", default_value = "0.1%", value_parser = parse_share)]
    malformed: f64,
    /// Stop after this many messages to each stream
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write every message down with the place where it arrived, one JSON object a line; appended to
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write what was sent, counted per stream, as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Print the definitions of the streams and their views, and send nothing
    #[arg(long)]
    definitions: bool,
}

/// Reads "2%" or "0.02".
fn parse_share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&(share / whole)) => Ok(share / whole),
        _ => Err(format!("`{text}` is not a share; write 2% or 0.02")),
    }
}

impl Arguments {
    fn streams(&self) -> Vec<DemoStream> {
        let mut streams = self.streams.clone();
        streams.sort_unstable();
        streams.dedup();
        match streams.is_empty() {
            true => DemoStream::ALL.to_vec(),
            false => streams,
        }
    }

    fn plan(&self) -> Result<Plan> {
        let faults = Faults { late: self.late, duplicates: self.duplicates, malformed: self.malformed };
        if self.late + self.duplicates + self.malformed > 1.0 {
            let sentence = "--late, --duplicates and --malformed are more than 100% together";
            return Err(Usage(sentence.to_owned()).into());
        }
        let named = ["bootstrap.servers", "metadata.broker.list"];
        if !self.kafka.iter().any(|(key, _)| named.contains(&key.as_str())) {
            let sentence =
                "say where Kafka is: --kafka bootstrap.servers=HOST:PORT; `thalweg up --demo` brings its own";
            return Err(Usage(sentence.to_owned()).into());
        }
        Ok(Plan {
            kafka: self.kafka.iter().cloned().collect(),
            streams: self.streams(),
            rate: self.rate,
            seed: self.seed,
            time: self.event_time,
            faults,
            count: self.count,
            record: self.record.clone(),
        })
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.definitions {
        let texts = arguments.streams().into_iter().map(DemoStream::definitions);
        let text = texts.collect::<Vec<_>>().join("\n");
        return terminal::out(text.trim_end()).map(|()| ExitCode::SUCCESS);
    }
    let plan = arguments.plan()?;
    let stop = Signals::listen()?.first(LOST);
    let cancel = CancellationToken::new();
    let (sent, seen) = watch::channel(0);
    let sending = plan.run(&cancel, &sent);
    tokio::pin!(sending, stop);
    let summary = tokio::select! {
        summary = &mut sending => summary,
        never = show(seen) => match never {},
        () = &mut stop => {
            cancel.cancel();
            sending.await
        }
    };
    if std::io::stderr().is_terminal() {
        terminal::err_again("");
    }
    report(&summary?, arguments.summary.as_deref())
}

/// Prints the progress for people.
async fn show(seen: watch::Receiver<u64>) -> Infallible {
    let (mut before, mut at) = (0, Instant::now());
    loop {
        tokio::time::sleep(SHOW).await;
        let now = *seen.borrow();
        let rate = (now - before) as f64 / at.elapsed().as_secs_f64();
        (before, at) = (now, Instant::now());
        if std::io::stderr().is_terminal() {
            let (now, rate) = (terminal::grouped(now), terminal::grouped(rate as u64));
            terminal::err_again(&format!("{now} messages, {rate}/s; Ctrl-C ends it"));
        }
    }
}

fn report(summary: &Summary, file: Option<&Path>) -> Result<ExitCode> {
    if let Some(path) = file {
        let json = serde_json::to_string_pretty(summary)?;
        std::fs::write(path, json + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let head = ["stream", "messages", "rows", "late", "duplicates", "malformed"];
    let rows: Vec<Vec<String>> = summary
        .streams
        .iter()
        .map(|(name, tally)| {
            let counts = [tally.messages, tally.rows, tally.late, tally.duplicates, tally.malformed];
            let counts = counts.map(terminal::grouped);
            std::iter::once((*name).to_owned()).chain(counts).collect()
        })
        .collect();
    let right = [false, true, true, true, true, true];
    terminal::out(&terminal::table(&head.map(str::to_owned), &right, &rows))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        for (text, expect) in [
            ("2%", Some(0.02)),
            ("0.02", Some(0.02)),
            ("0.1 %", Some(0.001)),
            ("100%", Some(1.0)),
            ("0", Some(0.0)),
            ("2", None),
            ("-1%", None),
            ("101%", None),
            ("some", None),
            ("%", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_share(text).ok(), expect, "{text}");
        }
    }
}
