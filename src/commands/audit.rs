//! `thalweg audit`: checks whether both layers compute the same states from the same events.
//!
//! Invariant: exit code 0 means that something was compared and everything was equal; the output states the amount.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use thalweg_client::terminal;
use thalweg_schemas::Frontier;
use thalweg_schemas::algebra::Difference;
use thalweg_schemas::api::audits::{Against, AuditList, AuditPart, AuditQuery, AuditReport, FailedAudit};
use thalweg_schemas::api::paths;
use thalweg_schemas::realtime::segment::Provenance;

use crate::flags::ServerFlags;

const EXAMPLES: &str = "\
Examples:
  thalweg audit
  thalweg audit --view device_minutes
  thalweg audit --json | jq '.audits[].parts'

What is compared: the speed layer's segments up to the newest archived mark, and the same range computed again
from the archive. Where it holds none, as after a start with everything archived, it rebuilds all that lies below
the cut, which takes as long as a full recomputation, and that is compared with the published batch states.

Exit codes: 0 all that was compared is equal; 1 a group differs, a view could not be compared, or the server failed;
2 wrong usage; 3 there was nothing to compare: no view has an archived mark above its stream's origin yet.";

/// Exit code if there was nothing to compare.
const NOTHING: u8 = 3;

/// The number of differing groups that are printed for each part.
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

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = arguments.server.client()?;
    let request = client.request(Method::POST, paths::AUDIT)?.query(&AuditQuery { view: arguments.view });
    let response = client.send(request).await?;
    let body: serde_json::Value = client.json(response).await?;
    let AuditList { audits, failed } = client.shape(body.clone())?;
    if arguments.json {
        terminal::out(&serde_json::to_string_pretty(&body)?)?;
    } else {
        audits.iter().try_for_each(print)?;
        for FailedAudit { view, reason } in &failed {
            terminal::out(&terminal::plain(&format!("{view}: NOT COMPARED: {reason}")))?;
        }
    }
    let equal = failed.is_empty() && audits.iter().all(AuditReport::is_equal);
    let compared = audits.iter().any(|audit| !audit.parts.is_empty());
    Ok(match (equal, compared) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(NOTHING),
        (false, _) => ExitCode::FAILURE,
    })
}

fn print(audit: &AuditReport) -> Result<()> {
    let view = &audit.view;
    if audit.parts.is_empty() {
        return terminal::out(&format!(
            "{view}: nothing to compare: nothing is archived below a mark yet; `thalweg status` shows how far it is"
        ));
    }
    let range = format!("from {:?} to {:?}", positions(&audit.from), positions(&audit.to));
    for part in &audit.parts {
        let all = part.differences.len() as u64 + part.more;
        let verdict = match all {
            0 => "equal".to_owned(),
            n => format!("{n} DIFFER"),
        };
        let (provenance, against) = sides(part);
        terminal::out(&format!(
            "{view}: {verdict}: {} {provenance} segments against the {against}, {} offsets, {} groups, {range}",
            part.segments, part.offsets, part.groups
        ))?;
        for difference in part.differences.iter().take(SHOWN) {
            terminal::out(&terminal::plain(&describe(difference, against)))?;
        }
        let hidden = all.saturating_sub(SHOWN as u64);
        match part.more {
            _ if hidden == 0 => {}
            0 => terminal::out(&format!("  … and {hidden} more; --json has all"))?,
            _ => terminal::out(&format!("  … and {hidden} more; --json has the first {}", part.differences.len()))?,
        }
    }
    Ok(())
}

/// Returns the origin of the segments, and the state that they were compared with.
fn sides(part: &AuditPart) -> (&'static str, &'static str) {
    let provenance = match part.provenance {
        Provenance::Live => "live",
        Provenance::Rebuilt => "rebuilt",
    };
    let against = match part.against {
        Against::Published => "batch states",
        Against::Archive | Against::Unknown => "archive",
    };
    (provenance, against)
}

fn positions(frontier: &Frontier) -> BTreeMap<i32, i64> {
    frontier.iter().map(|(partition, offset)| (partition.0, offset.0)).collect()
}

fn describe(difference: &Difference, against: &str) -> String {
    let group = difference.group.join(", ");
    let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "absent".to_owned());
    let what = difference.aggregate.as_deref().unwrap_or("the group");
    format!("  ({group}) {what}: speed {}, {against} {}", side(&difference.left), side(&difference.right))
}
