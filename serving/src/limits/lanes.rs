//! Lanes: the threads on which queries compute. A query has a lane for itself.
//!
//! The operating system shares the cores among lanes, so a query that never yields delays another one by a share of
//! the cores, and not until its end. Work whose time is over and that does not return is *lost*: its lane stays with
//! the work, and others are answered on other lanes. The lane is used again when the work does return.
//!
//! Invariant: a lane is given out again only after its [`Lane`] was dropped, so two queries never share a thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{Error, Result};

/// How long work may still run after its end was asked for before it counts as lost. On a machine that has more to do
/// than it can, one step of an operator takes seconds.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);

/// The stack of a thread. Plans of deep expressions are walked recursively.
const STACK_BYTES: usize = 16 << 20;

/// How many lanes hold work that does not return.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostWork {
    pub(crate) now: Gauge,
    pub(crate) ever: Counter,
}

/// All lanes. A lane is started when no idle one is left, and kept for the next query.
#[derive(Debug)]
pub(crate) struct Lanes {
    idle: Arc<Mutex<Vec<LaneThreads>>>,
    threads: usize,
    lost: LostWork,
}

/// The threads of a lane. Dropping the value does not wait for running work.
#[derive(Debug)]
struct LaneThreads(Option<Runtime>);

impl Drop for LaneThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One lane. Held by everything that computes there; dropping the value gives the lane back.
#[derive(Debug)]
pub(crate) struct Lane {
    threads: Option<LaneThreads>,
    handle: Handle,
    home: Weak<Mutex<Vec<LaneThreads>>>,
    use_of: Arc<Use>,
}

/// One use of a lane.
#[derive(Debug)]
struct Use {
    is_lost: AtomicBool,
    lost: LostWork,
}

impl Drop for Use {
    fn drop(&mut self) {
        if *self.is_lost.get_mut() {
            self.lost.now.dec();
        }
    }
}

impl Lanes {
    /// Every lane has `threads` threads, at least one.
    pub(crate) fn new(threads: usize, lost: LostWork) -> Self {
        Self { idle: Arc::default(), threads: threads.max(1), lost }
    }

    /// Errors: [`Error::StartThreads`].
    pub(crate) fn take(&self) -> Result<Lane> {
        let idle = self.idle.lock().pop();
        let threads = match idle {
            Some(threads) => threads,
            None => self.start().map_err(Error::StartThreads)?,
        };
        let handle = match &threads.0 {
            Some(runtime) => runtime.handle().clone(),
            None => return Err(Error::StartThreads(std::io::Error::other("the lane has no threads"))),
        };
        let use_of = Arc::new(Use { is_lost: AtomicBool::new(false), lost: self.lost.clone() });
        Ok(Lane { threads: Some(threads), handle, home: Arc::downgrade(&self.idle), use_of })
    }

    fn start(&self) -> std::io::Result<LaneThreads> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(self.threads).thread_name("query").thread_stack_size(STACK_BYTES).enable_all();
        Ok(LaneThreads(Some(builder.build()?)))
    }

    /// The number of lanes whose work is lost.
    pub(crate) fn lost(&self) -> usize {
        usize::try_from(self.lost.now.get()).unwrap_or(0)
    }
}

impl Lane {
    /// The runtime of the lane.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A value that watches this use of the lane from the moment it is dropped.
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.use_of))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let (Some(threads), Some(home)) = (self.threads.take(), self.home.upgrade()) {
            home.lock().push(threads);
        }
    }
}

/// Held by whoever waits for work on a lane. Once the value is dropped nobody waits any more, and work that still holds
/// the lane after [`LOST_AFTER`] is counted as lost.
#[derive(Debug)]
pub(crate) struct Watch(Weak<Use>);

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0.strong_count() == 0 {
            return;
        }
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let work = Weak::clone(&self.0);
        here.spawn(async move {
            tokio::time::sleep(LOST_AFTER).await;
            if let Some(work) = work.upgrade() {
                work.is_lost.store(true, Ordering::Relaxed);
                work.lost.now.inc();
                work.lost.ever.inc();
                tracing::warn!("a query does not end although its time is over; its threads are written off");
            }
        });
    }
}
