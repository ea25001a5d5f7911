//! A local disk as an object store whose writes survive a power failure.
//!
//! object_store's own local store leaves it to the operating system when bytes reach the disk: after a power failure a
//! commit that was acknowledged may be gone, although Kafka has let go of its messages, or its name may be there
//! without its bytes. Here a file is forced to the disk before it gets its name, and its folder after.
//!
//! Invariant: when a write returns, it is on the disk; a name is never there before its bytes. So a commit that is
//! written after its data files can never be found without them.

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

/// The folders whose own names are known to be on the disk.
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

    /// Forces the file at `location` and its name to the disk.
    async fn settle(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| failed(&path, e))?;
            folders.settle(&path)
        })
        .await
    }

    /// Forces the names at `location` to the disk, among them one that is gone.
    async fn settle_names(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || folders.settle(&path)).await
    }
}

impl Folders {
    /// Forces the name of `path` to the disk, and those of its folders if they may be new.
    fn settle(&self, path: &FsPath) -> Result<()> {
        let mut settled = Vec::new();
        for folder in path.ancestors().skip(1) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|e| failed(folder, e))?;
            if folder == self.root || self.known.lock().contains(folder) {
                break;
            }
            settled.push(folder.to_owned());
        }
        // Not before all are: who finds a folder here relies on those above it.
        self.known.lock().extend(settled);
        Ok(())
    }
}

/// Writes `payload` beside `path`, forces it to the disk, and gives it its name.
fn write(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let (mut file, staged) = stage(path)?;
    let named =
        payload.iter().try_for_each(|bytes| file.write_all(bytes)).and_then(|()| file.sync_all()).and_then(|()| {
            match create {
                // A link, unlike a rename, fails if the name is taken.
                true => std::fs::hard_link(&staged, path),
                false => std::fs::rename(&staged, path),
            }
        });
    if create || named.is_err() {
        // What is left of it is hidden from readers; the next write takes another name.
        let _ = std::fs::remove_file(&staged);
    }
    named.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: path.display().to_string(), source: source.into() },
        _ => failed(path, source),
    })
}

/// A new file beside `path`, of a name that object_store hides: `path#1`.
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
            // Refused there, in its own words.
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        blocking(move || {
            write(&path, &payload, create)?;
            folders.settle(&path)
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
        self.settle(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.settle(to).await?;
        self.settle_names(from).await
    }
}

/// An upload in parts. Nothing refers to it before it is complete, so it is enough that it is durable then.
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
        self.disk.settle(&self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests;
