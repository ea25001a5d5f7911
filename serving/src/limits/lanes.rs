//! Lanes: the threads on which queries compute. A query has a lane for itself.
//!
//! The operating system shares the cores among lanes, so a query that never yields delays another one by a share of
//! the cores, and not until its end. Work whose time is over and that does not return is *lost*: its lane stays with
//! the work, and others are answered on other lanes. The lane is used again when the work does return.
//!
//! Invariant: a lane is given out again only after its [`Lane`] was dropped, which everything that computes there keeps
//! (`allowance`), so two queries never share a thread.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use thalweg_schemas::engine::threads::STACK;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Result};

/// How long work may still run after its end was asked for before it counts as lost. On a machine that has more to do
/// than it can, one step of an operator takes seconds.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);

/// How many lanes hold work that does not return.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostWork {
    pub(crate) now: Gauge,
    pub(crate) ever: Counter,
}

/// All lanes. A lane is started when no idle one is left, and kept for the next query.
#[derive(Debug)]
pub(crate) struct Lanes {
    home: Arc<Home>,
    threads: usize,
    lost: LostWork,
}

/// The idle lanes.
#[derive(Debug)]
struct Home {
    idle: Mutex<Vec<LaneThreads>>,
    /// The most of them; further ones end.
    most: usize,
}

impl Home {
    fn take_back(&self, lane: LaneThreads) {
        let mut idle = self.idle.lock();
        match idle.len() < self.most {
            true => idle.push(lane),
            false => {
                drop(idle);
                drop(lane);
            }
        }
    }
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
    home: Weak<Home>,
    use_of: Arc<Use>,
}

/// One use of a lane.
struct Use {
    /// [`UNDER_WAY`], [`LOST`] or [`ENDED`].
    state: AtomicU8,
    lost: LostWork,
    /// What else happens when the work is lost.
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

const UNDER_WAY: u8 = 0;
const LOST: u8 = 1;
const ENDED: u8 = 2;

impl fmt::Debug for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Use").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Use {
    /// Counts the work as lost, once, unless it has ended.
    fn lose(&self) {
        if self.state.compare_exchange(UNDER_WAY, LOST, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.lost.now.inc();
        self.lost.ever.inc();
        if let Some(then) = self.then.lock().take() {
            then();
        }
        tracing::warn!("a query does not end although its time is over; its threads are written off");
    }

    /// The work has ended, and is not lost any more.
    fn end(&self) {
        if self.state.swap(ENDED, Ordering::Relaxed) == LOST {
            self.lost.now.dec();
        }
    }
}

impl Lanes {
    /// Every lane has `threads` threads, at least one. `most_idle` lanes are kept while nobody needs them.
    pub(crate) fn new(threads: usize, most_idle: usize, lost: LostWork) -> Self {
        let home = Arc::new(Home { idle: Mutex::default(), most: most_idle });
        Self { home, threads: threads.max(1), lost }
    }

    /// Errors: [`Error::StartThreads`].
    pub(crate) fn take(&self) -> Result<Lane> {
        let idle = self.home.idle.lock().pop();
        let threads = match idle {
            Some(threads) => threads,
            None => self.start().map_err(Error::StartThreads)?,
        };
        let handle = match &threads.0 {
            Some(runtime) => runtime.handle().clone(),
            None => return Err(Error::StartThreads(std::io::Error::other("the lane has no threads"))),
        };
        let use_of = Arc::new(Use { state: AtomicU8::new(UNDER_WAY), lost: self.lost.clone(), then: Mutex::default() });
        Ok(Lane { threads: Some(threads), handle, home: Arc::downgrade(&self.home), use_of })
    }

    fn start(&self) -> std::io::Result<LaneThreads> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(self.threads).thread_name("query").thread_stack_size(STACK).enable_all();
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

    /// Runs `then` if the work on this lane is lost.
    pub(crate) fn when_lost(&self, then: impl FnOnce() + Send + 'static) {
        *self.use_of.then.lock() = Some(Box::new(then));
    }

    /// A value that watches this use of the lane. Work that holds the lane at `late` is lost, whoever waits for it.
    pub(crate) fn watch(&self, late: Instant) -> Watch {
        let work = Arc::downgrade(&self.use_of);
        let here = Handle::try_current().ok();
        let waiting = here.map(|here| AbortOnDropHandle::new(here.spawn(lose_at(Weak::clone(&work), late))));
        Watch { work, late, waiting }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.use_of.end();
        if let (Some(threads), Some(home)) = (self.threads.take(), self.home.upgrade()) {
            home.take_back(threads);
        }
    }
}

/// Held by whoever waits for work on a lane. Once the value is dropped nobody waits any more, and work that still holds
/// the lane after [`LOST_AFTER`] is counted as lost.
#[derive(Debug)]
pub(crate) struct Watch {
    work: Weak<Use>,
    late: Instant,
    /// Loses the work while somebody still waits: a client that does not read is one.
    waiting: Option<AbortOnDropHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.waiting.take());
        if self.work.strong_count() == 0 {
            return;
        }
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let late = self.late.min(Instant::now() + LOST_AFTER);
        here.spawn(lose_at(Weak::clone(&self.work), late));
    }
}

async fn lose_at(work: Weak<Use>, late: Instant) {
    tokio::time::sleep_until(late).await;
    if let Some(work) = work.upgrade() {
        work.lose();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_idle_lanes_are_kept() {
        let lanes = Lanes::new(1, 2, LostWork::default());
        let used: Vec<Lane> = (0..5).map(|_| lanes.take().unwrap()).collect();
        drop(used);
        assert_eq!(lanes.home.idle.lock().len(), 2);
    }

    #[tokio::test]
    async fn work_is_lost_once_although_somebody_waits() {
        let lanes = Lanes::new(1, 2, LostWork::default());
        let lane = lanes.take().unwrap();
        let (sender, told) = tokio::sync::oneshot::channel();
        lane.when_lost(move || sender.send(()).unwrap());
        let began = Instant::now();
        let watch = lane.watch(began + Duration::from_millis(100));
        assert_eq!(lanes.lost(), 0);
        told.await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(100));
        lane.use_of.lose();
        assert_eq!((lanes.lost(), lanes.lost.ever.get()), (1, 1));
        drop((watch, lane));
        assert_eq!((lanes.lost(), lanes.lost.ever.get()), (0, 1));
    }
}
