//! The files that are loaded: found by paths and URLs in which names may have `*`, `?` and `[…]`, and read from a disk.
//!
//! Invariant: a file is known by its URL, and by an identity that changes when the file does. A remote file is copied
//! to a disk first, whole, because Parquet is read from its end.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use thalweg_schemas::warehouse::Warehouse;
use url::Url;

use crate::{Error, Result};

/// What is requested of a remote file at once: a request has a time limit.
const PART: u64 = 8 << 20;
/// Parts that are under way at the same time.
const AHEAD: usize = 4;

const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

const OUTSIDE: &str = "it is not below a place that the setting copy_from names";
const CHANGED: &str = "it was changed while it was read; run the command again";

/// One file.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    /// The file's address, which rows carry and by which the file is known.
    pub(super) url: String,
    /// Another text for other content.
    pub(super) identity: String,
    /// Bytes.
    pub(super) size: u64,
    place: SourcePlace,
}

#[derive(Debug, Clone)]
enum SourcePlace {
    Disk(PathBuf),
    /// With the entity tag, if the store has one.
    Store(Arc<dyn ObjectStore>, Path, Option<String>),
}

/// The files of a path or URL, in the order of their names. All of them must be below a place of `within`, if there is
/// one.
///
/// Errors: [`Error::FindFiles`] if there is none, or the place cannot be read or is not allowed.
pub(super) async fn find(
    pattern: &str,
    within: Option<&[String]>,
    storage: &BTreeMap<String, String>,
) -> Result<Vec<SourceFile>> {
    let failed = |reason: String| Error::FindFiles { pattern: pattern.to_owned(), reason };
    // Nothing is looked at elsewhere, so that no answer tells what is there.
    if within.is_some_and(|places| climbs(pattern) || !is_below(&fixed(pattern), places)) {
        return Err(failed(OUTSIDE.to_owned()));
    }
    let mut found = match Url::parse(pattern) {
        Ok(url) if url.scheme() == "file" => on_disk(pattern.strip_prefix("file://").unwrap_or(pattern), within),
        Ok(url) if url.scheme().len() > 1 => in_store(pattern, &url, storage, within).await,
        _ => on_disk(pattern, within),
    }
    .map_err(failed)?;
    found.sort_by(|a, b| a.url.cmp(&b.url));
    found.dedup_by(|a, b| a.url == b.url);
    if found.is_empty() {
        return Err(failed("no file has that name".to_owned()));
    }
    Ok(found)
}

/// True if a part of a pattern may lead upwards: `..`, or `.*`, which `..` matches.
fn climbs(pattern: &str) -> bool {
    pattern.split('/').any(|name| name == ".." || name.starts_with('.') && name.contains(['*', '?', '[']))
}

/// A path without its scheme, or a URL; up to the first sign of a pattern.
fn fixed(pattern: &str) -> String {
    let text = pattern.strip_prefix("file://").unwrap_or(pattern);
    let end = text.find(['*', '?', '[']).unwrap_or(text.len());
    match text.contains("://") {
        true => text[..end].to_owned(),
        false => std::path::absolute(&text[..end]).map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned()),
    }
}

/// A place as its files are called in the end.
fn canonical(place: &str) -> String {
    let text = place.strip_prefix("file://").unwrap_or(place);
    match text.contains("://") {
        true => text.to_owned(),
        false => {
            DiskPath::new(text).canonicalize().map_or_else(|_| text.to_owned(), |p| p.to_string_lossy().into_owned())
        }
    }
}

/// True if a path or URL lies below one of `places`: whole names count, and `..` leads nowhere.
fn is_below(text: &str, places: &[String]) -> bool {
    let is_in = |place: &String| {
        let place = place.strip_prefix("file://").unwrap_or(place).trim_end_matches('/');
        text.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !text.split('/').any(|name| name == "..") && places.iter().any(is_in)
}

fn on_disk(pattern: &str, within: Option<&[String]>) -> Result<Vec<SourceFile>, String> {
    let absolute = std::path::absolute(pattern).map_err(|e| e.to_string())?;
    // A name that is there is taken as it is, whatever signs it has.
    let is_name = absolute.exists();
    let paths: Vec<PathBuf> = if is_name {
        vec![absolute]
    } else {
        let text = absolute.to_str().ok_or("it is not UTF-8")?;
        let found = glob::glob_with(text, MATCH).map_err(|e| e.to_string())?;
        found.collect::<Result<_, _>>().map_err(|e| e.to_string())?
    };
    let places: Option<Vec<String>> = within.map(|places| places.iter().map(|place| canonical(place)).collect());
    let mut files = Vec::new();
    for path in paths {
        // A file has one name, however it is reached.
        let path = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        if places.as_ref().is_some_and(|places| !is_below(&path.to_string_lossy(), places)) {
            return Err(OUTSIDE.to_owned());
        }
        let known = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if known.is_dir() && is_name {
            return Err(format!("{} is a folder; write {}/*", path.display(), path.display()));
        }
        if !known.is_dir() {
            let url = Url::from_file_path(&path).map_err(|()| format!("{} is no absolute path", path.display()))?;
            let (url, size, identity) = (url.to_string(), known.len(), identity(&known)?);
            files.push(SourceFile { url, identity, size, place: SourcePlace::Disk(path) });
        }
    }
    Ok(files)
}

fn identity(known: &Metadata) -> Result<String, String> {
    let changed = known.modified().map_err(|e| e.to_string())?;
    let changed = changed.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok(format!("{} {changed}", known.len()))
}

async fn in_store(
    pattern: &str,
    url: &Url,
    storage: &BTreeMap<String, String>,
    within: Option<&[String]>,
) -> Result<Vec<SourceFile>, String> {
    let store = Warehouse::open_bucket(url, storage).map_err(|e| e.to_string())?;
    // The text itself, because a URL escapes what patterns are made of.
    let bucket = url.host_str().ok_or("it names no bucket")?;
    let key = pattern.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, key)| key);
    let address = |path: &Path| format!("s3://{bucket}/{path}");
    let file = |meta: ObjectMeta| SourceFile {
        url: address(&meta.location),
        identity: match &meta.e_tag {
            Some(tag) => tag.clone(),
            None => format!("{} {}", meta.size, meta.last_modified.timestamp_micros()),
        },
        size: meta.size,
        place: SourcePlace::Store(Arc::clone(&store), meta.location, meta.e_tag),
    };
    // The part before a sign may be the beginning of a longer name.
    let is_allowed = |file: &SourceFile| within.is_none_or(|places| is_below(&file.url, places));
    // A name that is there is taken as it is, whatever signs it has.
    let path = Path::parse(key).map_err(|e| e.to_string())?;
    match store.head(&path).await {
        Ok(meta) => return Ok(vec![file(meta)]),
        Err(object_store::Error::NotFound { .. }) if !key.contains(['*', '?', '[']) => return Ok(Vec::new()),
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    let wanted = Pattern::new(key).map_err(|e| e.to_string())?;
    let fixed = &key[..key.find(['*', '?', '[']).unwrap_or(key.len())];
    let folder = fixed.rsplit_once('/').map(|(folder, _)| Path::from(folder));
    let listed: Vec<ObjectMeta> = store.list(folder.as_ref()).try_collect().await.map_err(|e| e.to_string())?;
    let matching = listed.into_iter().filter(|meta| wanted.matches_with(meta.location.as_ref(), MATCH)).map(file);
    let matching: Vec<SourceFile> = matching.collect();
    if matching.iter().all(is_allowed) { Ok(matching) } else { Err(OUTSIDE.to_owned()) }
}

impl SourceFile {
    /// Opens the file; a remote one as a copy in `folder`, which is gone when the file is closed.
    ///
    /// Errors: [`Error::FindFiles`].
    pub(super) async fn open(&self, folder: &DiskPath) -> Result<File> {
        let failed = |reason: String| Error::FindFiles { pattern: self.url.clone(), reason };
        let (store, path, tag) = match &self.place {
            SourcePlace::Disk(path) => return File::open(path).map_err(|e| failed(e.to_string())),
            SourcePlace::Store(store, path, tag) => (store, path, tag),
        };
        tokio::fs::create_dir_all(folder).await.map_err(|e| failed(e.to_string()))?;
        let mut copy = tempfile::tempfile_in(folder).map_err(|e| failed(e.to_string()))?;
        let starts = (0..self.size).step_by(usize::try_from(PART).unwrap_or(usize::MAX));
        let parts = starts.map(|start| async move {
            let range = Some((start..self.size.min(start + PART)).into());
            let options = GetOptions { range, if_match: tag.clone(), ..GetOptions::default() };
            store.get_opts(path, options).await?.bytes().await
        });
        let mut parts = stream::iter(parts).buffered(AHEAD);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|source| match source {
                object_store::Error::Precondition { .. } => failed(CHANGED.to_owned()),
                source => Error::Store { path: self.url.clone(), source },
            })?;
            copy.write_all(&part).map_err(|e| failed(e.to_string()))?;
        }
        copy.seek(SeekFrom::Start(0)).map_err(|e| failed(e.to_string()))?;
        Ok(copy)
    }

    /// Checks, after a file was read, that it is what it was when it was found.
    ///
    /// Errors: [`Error::FindFiles`].
    pub(super) fn check(&self) -> Result<()> {
        let SourcePlace::Disk(path) = &self.place else { return Ok(()) };
        let now = std::fs::metadata(path).map_err(|e| e.to_string()).and_then(|known| identity(&known));
        match now {
            Ok(now) if now == self.identity => Ok(()),
            _ => Err(Error::FindFiles { pattern: self.url.clone(), reason: CHANGED.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_a_place_are_reached() {
        let places = ["/srv/in/", "s3://bucket/history", "file:///data"].map(str::to_owned);
        let reached = |pattern: &str| !climbs(pattern) && is_below(&fixed(pattern), &places);
        let check = |pattern: &str, expect: bool| assert_eq!(reached(pattern), expect, "{pattern}");
        check("/srv/in/a.csv", true);
        check("/srv/in/*/a.csv", true);
        check("file:///srv/in/a.csv", true);
        check("/data/a.csv", true);
        check("/srv/in/../secret.csv", false);
        check("/srv/in/*/../../secret.csv", false);
        check("/srv/in/.*/secret.csv", false);
        check("/srv/in/.hidden/a.csv", true);
        check("/srv/inner/a.csv", false);
        check("/srv/*/a.csv", false);
        check("/*", false);
        check("a.csv", false);
        check("", false);
        check("s3://bucket/history/a.csv", true);
        check("s3://bucket/history*/a.csv", true);
        check("s3://bucket/historyx/a.csv", false);
        check("s3://bucket/history/../a.csv", false);
        check("s3://other/history/a.csv", false);
        check("s3a://bucket/history/a.csv", false);
    }
}
