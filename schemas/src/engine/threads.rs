//! Separate threads for work that computes for a long time between two awaits: queries and recomputations.
//!
//! On the process's main threads such work would delay micro-batches and heartbeats. With separate threads the
//! operating system shares the cores fairly. Invariant: dropping the threads or a task on them never waits, and a
//! computation in the middle of a step finds its threads until the step is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The stack of every thread that parses or plans SQL, in bytes. How deep a statement may nest follows from it
/// ([`crate::definition`]); unused parts of a stack take no memory.
pub const STACK: usize = 64 << 20;

/// How long the threads stay for steps that cannot be interrupted.
const LAST_STEP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A set of threads. Dropping this value ends them once the tasks on them have ended, which the drop of each task's
/// handle asks for.
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
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // Waiting here would block an async thread. Ending the threads at once would end the helpers that a running
        // step waits for, which the Delta library answers with a panic.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let ended = Arc::clone(&runtime);
        let ending = move || {
            let Some(runtime) = ended.lock().take() else { return };
            let deadline = Instant::now() + LAST_STEP;
            while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            runtime.shutdown_background();
        };
        let waits = std::thread::Builder::new().name("ending".to_owned()).spawn(ending);
        // Without a thread that waits, the runtime ends at once: an async thread must not drop it.
        if waits.is_err()
            && let Some(runtime) = runtime.lock().take()
        {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_waits_for_its_helper_is_not_cut_off() {
        let threads = Threads::start("test", 2).unwrap();
        let (started, begun) = tokio::sync::oneshot::channel();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let handle = threads.handle().clone();
        let step = threads.spawn(async move {
            let (sender, receiver) = std::sync::mpsc::channel();
            handle.spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = sender.send(());
            });
            let _ = started.send(());
            let received = tokio::task::block_in_place(|| receiver.recv());
            let _ = done.send(received);
        });
        begun.await.unwrap();
        drop(step);
        drop(threads);
        assert_eq!(outcome.await.unwrap(), Ok(()));
    }
}
