//! The files that are loaded: found by paths and URLs in which names may have `*`, `?` and `[…]`, and read from a disk.
//!
//! Invariant: a file is known by its URL, and by an identity that changes when the file does. A remote file is copied
//! to a disk first, whole, because Parquet is read from its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use thalweg_schemas::warehouse::Warehouse;
use url::Url;

use crate::{Error, Result};

/// What is requested of a remote file at once: a request has a time limit.
const PART: u64 = 8 << 20;
/// Parts that are under way at the same time.
const AHEAD: usize = 4;

const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

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
    Store(Arc<dyn ObjectStore>, Path),
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
    let outside = || failed("it is not below a place that the setting copy_from names".to_owned());
    // Nothing is looked at elsewhere, so that no answer tells what is there.
    if within.is_some_and(|places| !is_below(&fixed(pattern), places)) {
        return Err(outside());
    }
    let mut found = match Url::parse(pattern) {
        Ok(url) if url.scheme() == "file" => on_disk(pattern.strip_prefix("file://").unwrap_or(pattern)),
        Ok(url) if url.scheme().len() > 1 => in_store(pattern, &url, storage).await,
        _ => on_disk(pattern),
    }
    .map_err(failed)?;
    found.sort_by(|a, b| a.url.cmp(&b.url));
    found.dedup_by(|a, b| a.url == b.url);
    // A link may lead elsewhere.
    let real = |file: &SourceFile| match &file.place {
        SourcePlace::Disk(path) => path.canonicalize().map(|path| path.to_string_lossy().into_owned()).ok(),
        SourcePlace::Store(..) => Some(file.url.clone()),
    };
    if let Some(places) = within {
        let real_places: Vec<String> = places.iter().map(|place| canonical(place)).collect();
        if !found.iter().all(|file| real(file).is_some_and(|real| is_below(&real, &real_places))) {
            return Err(outside());
        }
    }
    if found.is_empty() {
        return Err(failed("no file has that name".to_owned()));
    }
    Ok(found)
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

fn on_disk(pattern: &str) -> Result<Vec<SourceFile>, String> {
    let absolute = std::path::absolute(pattern).map_err(|e| e.to_string())?;
    // A name that is there is taken as it is, whatever signs it has.
    let paths: Vec<PathBuf> = if absolute.exists() {
        vec![absolute]
    } else {
        let text = absolute.to_str().ok_or("it is not UTF-8")?;
        let found = glob::glob_with(text, MATCH).map_err(|e| e.to_string())?;
        found.collect::<Result<_, _>>().map_err(|e| e.to_string())?
    };
    let mut files = Vec::new();
    for path in paths {
        let known = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if known.is_dir() {
            return Err(format!("{} is a folder; write {}/*", path.display(), path.display()));
        }
        let changed = known.modified().map_err(|e| e.to_string())?;
        let changed = changed.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let url = Url::from_file_path(&path).map_err(|()| format!("{} is no absolute path", path.display()))?;
        let (url, size) = (url.to_string(), known.len());
        files.push(SourceFile { url, identity: format!("{size} {changed}"), size, place: SourcePlace::Disk(path) });
    }
    Ok(files)
}

async fn in_store(pattern: &str, url: &Url, storage: &BTreeMap<String, String>) -> Result<Vec<SourceFile>, String> {
    let store = Warehouse::open_bucket(url, storage).map_err(|e| e.to_string())?;
    // The text itself, because a URL escapes what patterns are made of.
    let bucket = url.host_str().ok_or("it names no bucket")?;
    let key = pattern.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, key)| key);
    let address = |path: &Path| format!("{}://{bucket}/{path}", url.scheme());
    let file = |meta: ObjectMeta| SourceFile {
        url: address(&meta.location),
        identity: match &meta.e_tag {
            Some(tag) => tag.clone(),
            None => format!("{} {}", meta.size, meta.last_modified.timestamp_micros()),
        },
        size: meta.size,
        place: SourcePlace::Store(Arc::clone(&store), meta.location),
    };
    if !key.contains(['*', '?', '[']) {
        let path = Path::parse(key).map_err(|e| e.to_string())?;
        return match store.head(&path).await {
            Ok(meta) => Ok(vec![file(meta)]),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
    }
    let wanted = Pattern::new(key).map_err(|e| e.to_string())?;
    let fixed = &key[..key.find(['*', '?', '[']).unwrap_or(key.len())];
    let folder = fixed.rsplit_once('/').map(|(folder, _)| Path::from(folder));
    let listed: Vec<ObjectMeta> = store.list(folder.as_ref()).try_collect().await.map_err(|e| e.to_string())?;
    Ok(listed.into_iter().filter(|meta| wanted.matches_with(meta.location.as_ref(), MATCH)).map(file).collect())
}

impl SourceFile {
    /// Opens the file; a remote one as a copy in `folder`, which is gone when the file is closed.
    ///
    /// Errors: [`Error::FindFiles`].
    pub(super) async fn open(&self, folder: &DiskPath) -> Result<File> {
        let failed = |reason: String| Error::FindFiles { pattern: self.url.clone(), reason };
        let (store, path) = match &self.place {
            SourcePlace::Disk(path) => return File::open(path).map_err(|e| failed(e.to_string())),
            SourcePlace::Store(store, path) => (store, path),
        };
        tokio::fs::create_dir_all(folder).await.map_err(|e| failed(e.to_string()))?;
        let mut copy = tempfile::tempfile_in(folder).map_err(|e| failed(e.to_string()))?;
        let starts = (0..self.size).step_by(usize::try_from(PART).unwrap_or(usize::MAX));
        let parts = starts.map(|start| store.get_range(path, start..self.size.min(start + PART)));
        let mut parts = stream::iter(parts).buffered(AHEAD);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|source| Error::Store { path: self.url.clone(), source })?;
            copy.write_all(&part).map_err(|e| failed(e.to_string()))?;
        }
        copy.seek(SeekFrom::Start(0)).map_err(|e| failed(e.to_string()))?;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_a_place_are_reached() {
        let places = ["/srv/in/", "s3://bucket/history", "file:///data"].map(str::to_owned);
        let check = |pattern: &str, expect: bool| assert_eq!(is_below(&fixed(pattern), &places), expect, "{pattern}");
        check("/srv/in/a.csv", true);
        check("/srv/in/*/a.csv", true);
        check("file:///srv/in/a.csv", true);
        check("/data/a.csv", true);
        check("/srv/in/../secret.csv", false);
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
