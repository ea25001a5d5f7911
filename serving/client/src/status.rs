//! The status of a running server: streams, partitions and views, once, repeatedly, or live.
//!
//! Invariant: all values come from the server; only rates are computed here, from the server's earlier answers.

mod samples;
mod screen;

mod details;
mod frame;
mod plain;

mod answer;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use thalweg_schemas::api::views::ViewPhase;

use self::answer::StatusAnswer;
use self::samples::Sample;
use crate::http::Client;
use crate::terminal;

/// What is printed, and how often.
#[derive(Debug, Args)]
pub struct StatusFlags {
    /// Print everything the server knows, as JSON
    #[arg(long)]
    json: bool,
    /// Look again and again, every so many seconds [default: 1]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = parse_seconds)]
    watch: Option<Duration>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("write a number of seconds from 0.1 on".to_owned())
    }
}

/// Prints the status of the server at `url`; exit code 1 if a stream is stopped or has partitions that nobody
/// holds, or a view is failed.
///
/// Errors: the server does not answer; the terminal cannot be used.
pub async fn run(client: Client, url: &str, flags: StatusFlags) -> Result<ExitCode> {
    match flags.watch {
        Some(every) if !flags.json && terminal::is_terminal() => watch::live(client, url, every).await,
        Some(every) => watch::plain(client, every, flags.json).await,
        None => {
            let answer = StatusAnswer::of(&client).await?;
            let Sample { streams, views, .. } = answer.sample(&client, Duration::ZERO)?;
            terminal::out(&answer.text(&client, flags.json)?)?;
            let stopped = streams.iter().any(|stream| stream.failure.is_some() || !stream.unheld.is_empty());
            let failed = views.iter().any(|view| view.status == ViewPhase::Failed);
            Ok(ExitCode::from(u8::from(stopped || failed)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_not_tiny() {
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["0", "-1", "nan", "inf", "soon", "", "1e9", "0.01"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
