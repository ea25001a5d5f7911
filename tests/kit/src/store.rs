//! An object store that fails or dies at chosen operations.
//!
//! Invariant: a dead store returns only errors, and the future that used the store is dropped before it can react to
//! one. The remaining files are exactly those that a killed process leaves.

use std::future::Future;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// The fault to inject. Operations are counted from 1 since it was set.
#[derive(Debug, Clone, Copy, Default)]
pub enum Trouble {
    #[default]
    None,
    /// The process dies at this operation, before or after it takes effect.
    Kill { at: usize, after: bool },
    /// The next `times` writes to a path that contains `part` fail, before or after they take effect.
    Fail { part: &'static str, after: bool, times: usize },
    /// The next `times` reads of a path that contains `part` fail, or panic as a bug in the reader would.
    Read { part: &'static str, times: usize, panics: bool },
    /// The next `times` reads of a path that contains `part` wait until another trouble is set.
    Stall { part: &'static str, times: usize },
    /// Each of the next writes uses one of these traps.
    Traps(&'static [Trap]),
}

/// The fault of a single write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trap {
    /// The file is not written, and an error is returned.
    Lost,
    /// The file is written, and an error is returned.
    LandsAndFails,
    /// The file is written, and the answer is that it already existed: a retry of the client found its own first
    /// attempt.
    LandsAndExists,
}

impl Trap {
    fn fails(after: bool) -> Self {
        if after { Self::LandsAndFails } else { Self::Lost }
    }
}

#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    trouble: Mutex<(Trouble, usize)>,
    dead: watch::Sender<bool>,
    /// The number of faults that were set.
    set: watch::Sender<usize>,
    /// The number of reads that wait.
    stalled: watch::Sender<usize>,
}

/// A read that waits; it may be given up.
struct StalledRead<'a>(&'a watch::Sender<usize>);

impl Drop for StalledRead<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|stalled| *stalled -= 1);
    }
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            trouble: Mutex::default(),
            dead: watch::Sender::new(false),
            set: watch::Sender::new(0),
            stalled: watch::Sender::new(0),
        })
    }

    pub fn in_memory() -> Arc<Self> {
        Self::new(Arc::new(InMemory::new()))
    }

    pub fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = (trouble, 0);
        self.dead.send_replace(false);
        self.set.send_modify(|set| *set += 1);
    }

    /// Waits until reads wait, or until none does.
    pub async fn stalls(&self, expect: bool) {
        self.stalled.subscribe().wait_for(|stalled| (*stalled > 0) == expect).await.unwrap();
    }

    /// Runs `work` until it ends or the store dies. Returns `None` if the store died.
    pub async fn until_killed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut dead = self.dead.subscribe();
        tokio::select! {
            biased;
            _ = dead.wait_for(|dead| *dead) => None,
            done = work => (!*self.dead.borrow()).then_some(done),
        }
    }

    /// Returns the fault of the next operation, if any. Only a write may take effect and fail.
    fn trap(&self, path: &str, writes: bool) -> Option<Trap> {
        if *self.dead.borrow() {
            return Some(Trap::Lost);
        }
        let mut trouble = self.trouble.lock().unwrap();
        trouble.1 += 1;
        let count = trouble.1;
        match &mut trouble.0 {
            Trouble::Kill { at, after } if *at == count => {
                self.dead.send_replace(true);
                Some(Trap::fails(*after))
            }
            Trouble::Fail { part, after, times } if writes && *times > 0 && path.contains(*part) => {
                *times -= 1;
                Some(Trap::fails(*after))
            }
            Trouble::Traps(traps) if writes => {
                let (next, rest) = traps.split_first()?;
                *traps = rest;
                Some(*next)
            }
            _ => None,
        }
    }

    /// Fails or panics if a read of `path` is to do so.
    fn reads(&self, path: &str) -> Result<()> {
        let fault = match &mut *self.trouble.lock().unwrap() {
            (Trouble::Read { part, times, panics }, _) if *times > 0 && path.contains(*part) => {
                *times -= 1;
                Some(*panics)
            }
            _ => None,
        };
        match fault {
            None => Ok(()),
            Some(false) => Err(broken()),
            Some(true) => panic!("a read panics as told"),
        }
    }

    /// Waits if a read of `path` is to do so.
    async fn stall(&self, path: &str) {
        let mut set = self.set.subscribe();
        let stalls = match &mut *self.trouble.lock().unwrap() {
            (Trouble::Stall { part, times }, _) if *times > 0 && path.contains(*part) => {
                *times -= 1;
                true
            }
            _ => false,
        };
        if stalls {
            self.stalled.send_modify(|stalled| *stalled += 1);
            let _stalled = StalledRead(&self.stalled);
            let _ = set.changed().await;
        }
    }

    fn works(&self, path: &str, writes: bool) -> Result<()> {
        self.trap(path, writes).map_or(Ok(()), |_| Err(broken()))
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "as told".into() }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let trap = self.trap(location.as_ref(), true);
        if trap == Some(Trap::Lost) {
            return Err(broken());
        }
        let put = self.inner.put_opts(location, payload, opts).await?;
        match trap {
            None => Ok(put),
            Some(Trap::LandsAndExists) => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "412 Precondition Failed".into() })
            }
            Some(_) => Err(broken()),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.works(location.as_ref(), true)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.works(location.as_ref(), false)?;
        self.reads(location.as_ref())?;
        self.stall(location.as_ref()).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.works("", false) {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.works("", false) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.works("", false)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.works(to.as_ref(), true)?;
        self.inner.copy_opts(from, to, options).await
    }
}
