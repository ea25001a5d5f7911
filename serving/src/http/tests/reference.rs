//! Compares `docs/http.md` with the server: routes, error codes, headers, words, media types and examples.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thalweg_schemas::api::audits::{Against, AuditList};
use thalweg_schemas::api::dashboards::{DashboardChange, DashboardEntry, DashboardList, SavedDashboard, TileKind};
use thalweg_schemas::api::error::{ErrorCode, Refusal};
use thalweg_schemas::api::headers;
use thalweg_schemas::api::process::{ProbeAnswer, ProcessStatus};
use thalweg_schemas::api::runs::{RunEnd, RunList, RunMode};
use thalweg_schemas::api::sql::{SqlAnswer, SqlRequest};
use thalweg_schemas::api::streams::{StreamList, StreamPhase};
use thalweg_schemas::api::views::{ViewList, ViewPhase};

use super::super::encode::AnswerFormat;
use super::super::health::OPENMETRICS;
use super::super::table;

const PAGE: &str = include_str!("../../../../docs/http.md");

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// First and second cell of each row in the table of errors.
fn errors() -> impl Iterator<Item = (&'static str, &'static str)> {
    let (_, errors) = PAGE.split_once("\n## Errors\n").unwrap();
    errors.lines().filter_map(|line| {
        let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((code, rest.split_once(" | ")?.0))
    })
}

/// True if the page lists `code` with `status`.
pub(super) fn lists(status: u16, code: &str) -> bool {
    let status = status.to_string();
    errors().any(|(listed, statuses)| listed == code && statuses.split(", ").any(|listed| listed == status))
}

#[test]
fn every_route_has_a_section_and_a_line_in_the_overview() {
    let routes: BTreeSet<String> = table().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let titles = PAGE.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    assert_eq!(titles.map(str::to_owned).collect::<BTreeSet<_>>(), routes);
    let overview = PAGE.lines().filter_map(|line| Some(line.strip_prefix("| [`")?.split_once("`]")?.0.to_owned()));
    assert_eq!(overview.collect::<BTreeSet<_>>(), routes);
}

#[test]
fn every_error_code_is_listed_once_with_its_status() {
    let listed = errors().map(|(code, statuses)| (code, statuses.split(", ").next().unwrap().parse().unwrap()));
    let codes = ErrorCode::ALL.iter().map(|code| (code.as_str(), code.status()));
    assert_eq!(listed.collect::<Vec<(&str, u16)>>(), codes.collect::<Vec<_>>());
}

#[test]
fn every_header_is_described_and_no_other() {
    let described: BTreeSet<&str> = quoted(PAGE).filter(|word| word.starts_with("thalweg-")).collect();
    assert_eq!(described, headers::ALL.into());
    for value in [headers::ALLOW, headers::REFUSE, headers::TRUE] {
        assert!(quoted(PAGE).any(|word| word == value), "{value}");
    }
}

#[test]
fn every_word_is_explained() {
    let phases = StreamPhase::ALL.iter().map(|word| word.as_str());
    let views = ViewPhase::ALL.iter().map(|word| word.as_str());
    let ends = RunEnd::ALL.iter().map(|word| word.as_str());
    let sides = Against::ALL.iter().map(|word| word.as_str());
    let modes = [RunMode::Incremental, RunMode::Full].map(RunMode::as_str);
    let kinds = TileKind::ALL.iter().map(|word| word.as_str());
    for word in phases.chain(views).chain(ends).chain(sides).chain(modes).chain(kinds) {
        assert!(quoted(PAGE).any(|quoted| quoted == word), "{word}");
    }
}

#[test]
fn media_types_are_named() {
    let formats = [AnswerFormat::Json, AnswerFormat::Csv].map(AnswerFormat::content_type);
    let formats = formats.iter().map(|kind| kind.to_str().unwrap());
    for kind in formats.chain([OPENMETRICS]) {
        assert!(quoted(PAGE).any(|word| word == kind), "{kind}");
    }
}

/// Checks that the example parses as a `T` and has no key that `T` lacks.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(name: &str, example: &str) {
    let value: T = serde_json::from_str(example).unwrap_or_else(|e| panic!("{name}: {e}:\n{example}"));
    let text: Value = serde_json::from_str(example).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), text, "{name}");
}

#[test]
fn examples_are_values_of_the_api() {
    let mut found = BTreeSet::new();
    for block in PAGE.split("\n```json ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (example, _) = rest.split_once("\n```").unwrap();
        match name {
            "SqlRequest" => check::<SqlRequest>(name, example),
            "SqlAnswer" => check::<SqlAnswer>(name, example),
            "StreamList" => check::<StreamList>(name, example),
            "ViewList" => check::<ViewList>(name, example),
            "ProcessStatus" => check::<ProcessStatus>(name, example),
            "AuditList" => check::<AuditList>(name, example),
            "RunList" => check::<RunList>(name, example),
            "ProbeAnswer" => check::<ProbeAnswer>(name, example),
            "DashboardList" => check::<DashboardList>(name, example),
            "SavedDashboard" => check::<SavedDashboard>(name, example),
            "DashboardChange" => check::<DashboardChange>(name, example),
            "DashboardEntry" => check::<DashboardEntry>(name, example),
            "Refusal" => check::<Refusal>(name, example),
            other => panic!("no type is called {other}"),
        }
        found.insert(name);
    }
    assert_eq!(found.len(), 13, "{found:?}");
    assert!(!PAGE.contains("```json\n"), "an example without a type");
}
