//! Separate threads for work that computes for a long time between two awaits: queries and recomputations.
//!
//! On the process's main threads such work would delay micro-batches and heartbeats. With separate threads the
//! operating system shares the cores fairly. Invariant: dropping the threads or a task on them never waits.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The stack of every thread that parses or plans SQL, in bytes. How deep a statement may nest follows from it
/// ([`crate::definition`]); unused parts of a stack take no memory.
pub const STACK: usize = 64 << 20;

/// A set of threads. Dropping this value ends the work on them.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts `count` threads (at least one) with the name `name`.
    ///
    /// Errors: the operating system cannot start the threads.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name(name)
            .thread_stack_size(STACK)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Starts `work` on these threads. Dropping the returned handle cancels the work.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.handle.spawn(work))
    }

    /// The runtime's handle, for work that outlives the task that starts it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for running work would block an async thread, which must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
