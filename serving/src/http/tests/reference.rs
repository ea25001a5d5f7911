//! Compares `docs/http.md` with the server: routes, error codes, headers, words, media types and examples.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thalweg_schemas::api::audits::{Against, AuditList};
use thalweg_schemas::api::certificate::Certificate;
use thalweg_schemas::api::dashboards::{DashboardChange, DashboardEntry, DashboardList, SavedDashboard, TileKind};
use thalweg_schemas::api::error::{ErrorCode, Refusal};
use thalweg_schemas::api::headers;
use thalweg_schemas::api::paths;
use thalweg_schemas::api::process::{ProbeAnswer, ProcessStatus};
use thalweg_schemas::api::runs::{RunEnd, RunList, RunMode};
use thalweg_schemas::api::sql::{SqlAnswer, SqlRequest};
use thalweg_schemas::api::streams::{StreamList, StreamPhase};
use thalweg_schemas::api::views::{ViewList, ViewPhase};

use super::super::format::AnswerFormat;
use super::super::health::OPENMETRICS;
use super::super::table;
use super::super::{openapi, request, rows};

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
    for value in [headers::ALLOW, headers::REFUSE, headers::TRUE, headers::MERGED, headers::BATCH, headers::SPEED] {
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
    let formats = AnswerFormat::ALL.map(AnswerFormat::content_type);
    let formats = formats.iter().map(|kind| kind.to_str().unwrap());
    let names = AnswerFormat::ALL.map(AnswerFormat::name);
    for word in names.into_iter().chain(request::EVERY).chain(rows::PARAMETERS) {
        assert!(quoted(PAGE).any(|quoted| quoted == word), "{word}");
    }
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
            "Certificate" => check::<Certificate>(name, example),
            other => panic!("no type is called {other}"),
        }
        found.insert(name);
    }
    assert_eq!(found.len(), 14, "{found:?}");
    assert!(!PAGE.contains("```json\n"), "an example without a type");
}

/// What a pointer of the OpenAPI document leads to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(pointer) => document.pointer(pointer.trim_start_matches('#')).unwrap_or_else(|| panic!("{pointer}")),
        None => value,
    }
}

#[test]
fn the_openapi_document_has_the_routes_the_parameters_and_the_codes() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let described_paths = document["paths"].as_object().unwrap();
    let described = described_paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    // The pages of the console are for people.
    let pages = [paths::CONSOLE, paths::ASSET];
    let routes = table().into_iter().filter(|(_, path, _)| !pages.contains(path));
    let routes = routes.map(|(method, path, _)| format!("{method} {path}")).collect::<BTreeSet<_>>();
    assert_eq!(described.collect::<BTreeSet<_>>(), routes);

    let names = |path: &str, method: &str, kind: &str| {
        let list = described_paths[path][method]["parameters"].as_array().unwrap().iter();
        let list = list.map(|parameter| resolved(&document, parameter)).filter(|parameter| parameter["in"] == kind);
        list.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let set = |own: &[&str]| own.iter().chain(&request::EVERY).map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names("/v1/sql", "post", "query"), set(&[]));
    assert_eq!(names("/v1/sql", "get", "query"), set(&["query", "params"]));
    for path in ["/v1/views/{view}", "/v1/streams/{stream}"] {
        assert_eq!(names(path, "get", "query"), set(&rows::PARAMETERS));
        assert_eq!(names(path, "get", "path").len(), 1);
    }
    let asked: BTreeSet<String> = headers::ALL.iter().map(|&name| name.to_owned()).collect();
    let described = names("/v1/sql", "post", "header");
    let ours = described.iter().filter(|name| name.starts_with("thalweg-")).cloned().collect::<BTreeSet<_>>();
    assert_eq!(ours.union(&[headers::FRONTIER.to_owned()].into()).cloned().collect::<BTreeSet<_>>(), asked);

    let codes = document["components"]["schemas"]["ErrorCode"]["enum"].as_array().unwrap();
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(codes, ErrorCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>());
    let types = &document["components"]["responses"]["Answer"]["content"];
    let types: BTreeSet<&str> = types.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(types, AnswerFormat::ALL.map(AnswerFormat::media_type).into());
    // Every status of a code is described, with the body of an error.
    for (_, statuses) in errors() {
        for status in statuses.split(", ") {
            let body = &document["components"]["responses"][status]["content"]["application/json"]["schema"];
            assert_eq!(body["$ref"], "#/components/schemas/Refusal", "{status}");
        }
    }
}

#[test]
fn every_key_of_an_example_is_in_the_openapi_document() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    for block in PAGE.split("\n```json ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (example, _) = rest.split_once("\n```").unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        let schema = &document["components"]["schemas"][name];
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert!(keys(&schema["properties"]).is_superset(&keys(&example)), "{name}");
        // Lists of one kind of value have that kind's keys.
        for (key, value) in example.as_object().unwrap() {
            let item = resolved(&document, &schema["properties"][key]["items"]);
            if let (Some(first), Some(properties)) = (value.get(0).filter(|v| v.is_object()), item.get("properties")) {
                assert!(keys(properties).is_superset(&keys(first)), "{name}.{key}");
            }
        }
    }
}
