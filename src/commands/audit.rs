//! `thalweg audit`: do both layers say the same about the same events?
//!
//! Invariant: exit code 0 means that something was compared and all of it was equal; the output says how much that was.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use crate::client::Client;
use crate::flags::ServerFlags;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg audit
  thalweg audit --view device_minutes
  thalweg audit --json | jq '.audits[].parts'

What is compared: the speed layer's segments up to the newest archived mark, and the same range computed again
from the archive. Where it holds none, as after a start with everything archived, it rebuilds all that lies below
the cut, which takes as long as a full recomputation, and that is compared with the published batch states.

Exit codes: 0 all that was compared is equal; 1 a group differs, or the server failed; 2 wrong usage;
3 there was nothing to compare: no view has an archived mark above its stream's origin yet.";

/// Exit code if there was nothing to compare.
const NOTHING: u8 = 3;

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
    against: String,
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
    Ok(match (equal, parts().next()) {
        (true, Some(_)) => ExitCode::SUCCESS,
        (true, None) => ExitCode::from(NOTHING),
        (false, _) => ExitCode::FAILURE,
    })
}

fn print(audit: &Audit) -> Result<()> {
    let view = &audit.view;
    if audit.parts.is_empty() {
        return terminal::out(&format!(
            "{view}: nothing to compare: nothing is archived below a mark yet; `thalweg status` shows how far it is"
        ));
    }
    let range = format!("from {:?} to {:?}", audit.from, audit.to);
    for part in &audit.parts {
        let verdict = match part.differences.len() {
            0 => "equal".to_owned(),
            n => format!("{n} DIFFER"),
        };
        let against = part.other_side();
        terminal::out(&format!(
            "{view}: {verdict}: {} {} segments against the {against}, {} offsets, {} groups, {range}",
            part.segments, part.provenance, part.offsets, part.groups
        ))?;
        for difference in part.differences.iter().take(SHOWN) {
            terminal::out(&describe(difference, against))?;
        }
        if part.differences.len() > SHOWN {
            terminal::out(&format!("  … and {} more; --json has all", part.differences.len() - SHOWN))?;
        }
    }
    Ok(())
}

impl Part {
    fn other_side(&self) -> &'static str {
        match self.against.as_str() {
            "published" => "batch states",
            _ => "archive",
        }
    }
}

fn describe(difference: &Difference, against: &str) -> String {
    let group = difference.group.join(", ");
    let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "absent".to_owned());
    let what = difference.aggregate.as_deref().unwrap_or("the group");
    format!("  ({group}) {what}: speed {}, {against} {}", side(&difference.left), side(&difference.right))
}
