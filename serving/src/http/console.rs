//! The web console: files that are built into the program from `serving/console/dist`.
//!
//! A name below `/assets` carries a hash of the file's content, so browsers keep the file for ever; the page itself is
//! asked for each time, and answered by 304 if it is the same.
//!
//! Invariant: only names that were there when the program was built are looked up; no path is made of a request.
//! Invariant: scripts and styles come from these files alone, which the content security policy tells the browser.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use thalweg_schemas::api::paths;

use crate::{Error, Result};

/// What a page of the console may load and do. There is no inline script or style, and no way to make text a script.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";
const PAGE: &str = "index.html";
/// The ending of a file's compressed copy.
const COMPRESSED: &str = ".gz";

#[derive(Embed)]
#[folder = "console/dist"]
struct Embedded;

/// A file as it is sent.
#[derive(Debug)]
struct ConsoleFile {
    plain: Bytes,
    compressed: Option<Bytes>,
    media_type: &'static str,
    /// The hash of the content, in quotes.
    tag: String,
}

/// All files of the console by their names below `dist`; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Console(Arc<BTreeMap<String, ConsoleFile>>);

fn content(name: &str) -> Option<Bytes> {
    Embedded::get(name).map(|file| Bytes::from(file.data.into_owned()))
}

impl Console {
    pub(super) fn embedded() -> Self {
        let names = Embedded::iter().map(|name| name.into_owned()).filter(|name| !name.ends_with(COMPRESSED));
        let files = names.filter_map(|name| {
            let plain = content(&name)?;
            let hash = blake3::hash(&plain).to_hex();
            let file = ConsoleFile {
                compressed: content(&format!("{name}{COMPRESSED}")),
                media_type: media_type(&name),
                tag: format!("\"{}\"", &hash[..16]),
                plain,
            };
            Some((name, file))
        });
        Self(Arc::new(files.collect()))
    }

    /// Errors: [`Error::FindPath`].
    fn answer(&self, name: &str, path: &str, cache: &'static str, given: &HeaderMap) -> Result<Response> {
        let file = self.0.get(name).ok_or_else(|| Error::FindPath { path: path.to_owned() })?;
        let mut headers = HeaderMap::new();
        let mut say =
            |name: header::HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
        say(header::CACHE_CONTROL, cache);
        say(header::VARY, "accept-encoding");
        say(header::CONTENT_SECURITY_POLICY, POLICY);
        say(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        say(header::REFERRER_POLICY, "no-referrer");
        say(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        say(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
        say(header::CONTENT_TYPE, file.media_type);
        if let Ok(tag) = HeaderValue::from_str(&file.tag) {
            headers.insert(header::ETAG, tag);
        }
        if has(given, header::IF_NONE_MATCH, |tag| tag.trim_start_matches("W/") == file.tag) {
            headers.remove(header::CONTENT_TYPE);
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        let bytes = match &file.compressed {
            Some(compressed) if has(given, header::ACCEPT_ENCODING, takes_gzip) => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                compressed
            }
            _ => &file.plain,
        };
        Ok((headers, Body::from(bytes.clone())).into_response())
    }
}

/// True if one of a header's values, which are separated by commas, is accepted by `test`.
fn has(given: &HeaderMap, name: header::HeaderName, test: impl Fn(&str) -> bool) -> bool {
    let values = given.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| test(value.trim()))
}

/// True for `gzip`, unless its weight is 0.
fn takes_gzip(coding: &str) -> bool {
    let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
    let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.trim().parse::<f64>().ok());
    name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

pub(super) async fn page(Extension(console): Extension<Console>, given: HeaderMap) -> Result<Response> {
    console.answer(PAGE, paths::CONSOLE, ASK_AGAIN, &given)
}

pub(super) async fn asset(
    Extension(console): Extension<Console>,
    file: std::result::Result<Path<String>, PathRejection>,
    given: HeaderMap,
) -> Result<Response> {
    let Path(file) = file.map_err(|_| Error::FindPath { path: paths::ASSET.to_owned() })?;
    console.answer(&format!("assets/{file}"), &format!("/assets/{file}"), FOR_EVER, &given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_files_that_are_there_and_all_have_compressed_copies() {
        let console = Console::embedded();
        let page = String::from_utf8(console.0[PAGE].plain.to_vec()).unwrap();
        let named: Vec<&str> = page.split('"').filter_map(|part| part.strip_prefix("/assets/")).collect();
        assert_eq!(named.len(), console.0.len() - 1, "{named:?}");
        for name in named {
            assert!(console.0.contains_key(&format!("assets/{name}")), "{name}");
        }
        for (name, file) in console.0.iter() {
            assert!(file.compressed.as_ref().is_some_and(|c| c.starts_with(&[0x1f, 0x8b])), "{name}");
            assert_ne!(file.media_type, "application/octet-stream", "{name}");
        }
        // Nothing that the policy would keep from running.
        assert!(!page.contains("<style") && !page.contains(" on") && page.matches("<script").count() == 1, "{page}");
    }

    #[test]
    fn gzip_is_sent_to_whom_it_is_welcome() {
        for (value, expect) in [
            ("gzip", true),
            ("GZIP;q=0.5", true),
            ("gzip ; q=1", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=x", false),
            ("br", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(takes_gzip(value), expect, "{value}");
        }
    }
}
