//! `thalweg audit`: do both layers say the same about the same events?
//!
//! Invariant: exit code 0 means that everything compared was equal, and the output says how much that was.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use crate::cli::ServerFlags;
use crate::client::Client;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg audit
  thalweg audit --view device_minutes
  thalweg audit --json | jq '.audits[].parts'

What is compared: the speed layer's segments up to the newest archived mark, and the same range computed again
from the archive. Exit code 1 if a group differs.";

/// How many differing groups are printed of each part.
const SHOWN: usize = 20;

/// Compare the speed layer's state with the archive, group by group
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only this view [default: all]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// Print the whole report, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Deserialize)]
struct Report {
    audits: Vec<Audit>,
}

#[derive(Deserialize)]
struct Audit {
    view: String,
    from: BTreeMap<i32, i64>,
    to: BTreeMap<i32, i64>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    provenance: String,
    segments: usize,
    offsets: i64,
    groups: usize,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    group: Vec<String>,
    aggregate: Option<String>,
    left: Option<String>,
    right: Option<String>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let mut request = client.request(Method::POST, "/v1/audit")?;
    if let Some(view) = &arguments.view {
        request = request.query(&[("view", view)]);
    }
    let response = client.send(request).await?;
    let body: serde_json::Value = client.json(response).await?;
    let report: Report = client.shape(body.clone())?;
    if arguments.json {
        terminal::out(&serde_json::to_string_pretty(&body)?)?;
    } else {
        report.audits.iter().try_for_each(print)?;
    }
    let parts = || report.audits.iter().flat_map(|audit| &audit.parts);
    let equal = parts().all(|part| part.differences.is_empty());
    Ok(if equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(audit: &Audit) -> Result<()> {
    let view = &audit.view;
    if audit.parts.is_empty() {
        return terminal::out(&format!("{view}: nothing to compare below the newest mark"));
    }
    let range = format!("from {:?} to {:?}", audit.from, audit.to);
    for part in &audit.parts {
        let verdict = match part.differences.len() {
            0 => "equal".to_owned(),
            n => format!("{n} DIFFER"),
        };
        terminal::out(&format!(
            "{view}: {verdict}: {} {} segments, {} offsets, {} groups, {range}",
            part.segments, part.provenance, part.offsets, part.groups
        ))?;
        for difference in part.differences.iter().take(SHOWN) {
            terminal::out(&describe(difference))?;
        }
        if part.differences.len() > SHOWN {
            terminal::out(&format!(
                "  … and {} more; --json has all",
                part.differences.len() - SHOWN
            ))?;
        }
    }
    Ok(())
}

fn describe(difference: &Difference) -> String {
    let group = difference.group.join(", ");
    let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "absent".to_owned());
    let what = difference.aggregate.as_deref().unwrap_or("the group");
    format!(
        "  ({group}) {what}: speed {}, archive {}",
        side(&difference.left),
        side(&difference.right)
    )
}
