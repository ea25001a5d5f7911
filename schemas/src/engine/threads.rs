//! Threads of their own for work that computes long between two awaits: queries and recomputations.
//!
//! On the process's own threads such work would keep micro-batches and heartbeats waiting; on threads of its own the
//! operating system shares the cores fairly. Invariant: dropping the threads, or a piece of work on them, never waits.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// A set of threads; the work on them ends when this is dropped.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// `count` threads (at least one) with this name.
    ///
    /// Errors: the operating system gives no more threads.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count.max(1)).thread_name(name).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Starts `work` here; it is cancelled when the handle is dropped.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.handle.spawn(work))
    }

    /// For work that is to outlive its starter.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for what still runs would block a thread that must not be blocked.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
