//! A local disk as an object store whose writes survive a power failure.
//!
//! In object_store's own local store the operating system decides when bytes reach the disk. After a power failure an
//! acknowledged commit may be missing although Kafka has already deleted its messages, or the file of a commit may
//! exist without its bytes. This store syncs a file before it gets its name, and its folder afterwards.
//!
//! Invariant: a write is on the disk when it returns, and a name never exists before its bytes. So a commit that is
//! written after its data files never exists without them.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

const STORE: &str = "durable local disk";

/// [`LocalFileSystem`] with durable writes.
#[derive(Debug, Clone)]
pub(super) struct DurableDisk {
    inner: Arc<LocalFileSystem>,
    folders: Arc<Folders>,
}

/// The folders whose own directory entries are known to be on the disk.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    known: Mutex<HashSet<PathBuf>>,
}

impl DurableDisk {
    /// Errors: `root` does not exist.
    pub(super) fn open(root: &FsPath) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(root)?;
        let root = root.canonicalize().map_err(|e| failed(root, e))?;
        Ok(Self { inner: Arc::new(inner), folders: Arc::new(Folders { root, known: Mutex::default() }) })
    }

    /// Syncs the file at `location` and its directory entry.
    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| failed(&path, e))?;
            folders.sync(&path)
        })
        .await
    }

    /// Syncs the directory entry at `location`. The file may have been removed.
    async fn sync_entry(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || folders.sync(&path)).await
    }
}

impl Folders {
    /// Syncs the directory entry of `path`, and the entries of its folders that may be new.
    fn sync(&self, path: &FsPath) -> Result<()> {
        let mut added = Vec::new();
        for folder in path.ancestors().skip(1) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|e| failed(folder, e))?;
            if folder == self.root || self.known.lock().contains(folder) {
                break;
            }
            added.push(folder.to_owned());
        }
        // Only after all folders are synced: a known folder stops the walk, so its parents must be synced too.
        self.known.lock().extend(added);
        Ok(())
    }
}

/// Writes `payload` to a file beside `path`, syncs that file, and then gives it the name `path`.
fn write(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let (mut file, staged) = stage(path)?;
    let named =
        payload.iter().try_for_each(|bytes| file.write_all(bytes)).and_then(|()| file.sync_all()).and_then(|()| {
            match create {
                // A hard link, unlike a rename, fails if the name exists.
                true => std::fs::hard_link(&staged, path),
                false => std::fs::rename(&staged, path),
            }
        });
    if create || named.is_err() {
        // Ignored: readers do not see a staged file that stays, and the next write uses another name.
        let _ = std::fs::remove_file(&staged);
    }
    named.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: path.display().to_string(), source: source.into() },
        _ => failed(path, source),
    })
}

/// Creates a file beside `path` with a name that object_store hides from listings: `path#1`.
fn stage(path: &FsPath) -> Result<(File, PathBuf)> {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let staged = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let folder = path.parent().ok_or_else(|| failed(path, e))?;
                std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
            }
            Err(e) => return Err(failed(&staged, e)),
        }
    }
}

fn failed(path: &FsPath, source: std::io::Error) -> Error {
    Error::Generic { store: STORE, source: format!("{}: {source}", path.display()).into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|source| Error::JoinError { source })?
}

impl fmt::Display for DurableDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE} over {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = matches!(opts.mode, PutMode::Create);
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            // The inner store refuses these with its own error.
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            write(&path, &payload, create)?;
            folders.sync(&path)
        })
        .await?;
        let meta = self.inner.head(location).await?;
        Ok(PutResult { e_tag: meta.e_tag, version: meta.version })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { upload, disk: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await?;
        self.sync_entry(from).await
    }
}

/// An upload in parts, synced only on completion: no commit refers to an upload before that.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    disk: DurableDisk,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.upload.complete().await?;
        self.disk.sync(&self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests;
