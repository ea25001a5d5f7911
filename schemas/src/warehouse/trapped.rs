//! An object store that can be told to misbehave.
//!
//! Invariant: each trap catches one write; everything else goes to a real store in memory.

use std::collections::VecDeque;
use std::fmt;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use parking_lot::Mutex;

/// What a write does instead of what it should.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trap {
    /// Nothing is written, and an error is returned.
    Lost,
    /// The file is written, and an error is returned.
    LandsAndFails,
    /// The file is written, and the answer is that it existed: a retry of the client met its own first attempt.
    LandsAndExists,
}

/// An object store whose next writes step into traps.
#[derive(Debug, Default)]
pub(crate) struct Trapped {
    pub(crate) inner: InMemory,
    pub(crate) traps: Mutex<VecDeque<Trap>>,
}

impl fmt::Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trapped")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Trapped {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        let trap = self.traps.lock().pop_front();
        let failed = StoreError::Generic { store: "trapped", source: "500 Internal Server Error".into() };
        if matches!(trap, Some(Trap::Lost)) {
            return Err(failed);
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        match trap {
            Some(Trap::LandsAndFails) => Err(failed),
            Some(Trap::LandsAndExists) => {
                Err(StoreError::AlreadyExists { path: location.to_string(), source: "412 Precondition Failed".into() })
            }
            _ => Ok(put),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
