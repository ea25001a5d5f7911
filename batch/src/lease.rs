//! A lease for each view: one run at a time, whoever starts it, so that no two processes compute the same thing.
//!
//! It is a row of numbered files in the warehouse, `leases/<view id>/NNNNNNNN.json`, which are [`Claims`]. The highest
//! number counts; taking, renewing and releasing each create the next one.
//!
//! Invariant: a lease saves work and memory. Nothing that is published depends on it or on a clock: that is decided by
//! the compare-and-set of the view's table.

mod file;

use std::time::Duration;

use thalweg_schemas::ViewId;
use thalweg_schemas::clock::{WallClock, millis_of};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::claims::{Claim, Claims};
use uuid::Uuid;

pub use self::file::Holder;
use self::file::{LeaseFile, LeaseState, judge};
use crate::{Error, Result};

/// How long a lease lasts that is not renewed, and how often it is. Someone who dies elsewhere is waited for as long as
/// the first and the clocks' possible difference.
const LASTS: Duration = Duration::from_secs(20);
const RENEW: Duration = Duration::from_secs(5);
/// How often others may be faster before a run gives up.
const RACES: usize = 16;

/// A lease that is held.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    me: Holder,
    /// Of the newest file, which is ours.
    number: u64,
    /// True once it is released or lost.
    over: bool,
}

/// What came of asking for a lease.
#[derive(Debug)]
pub(crate) enum Taken {
    Mine(Lease),
    Held { holder: Holder, until_ms: i64 },
}

/// Whether a lease is still held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    Yes,
    /// Someone took it: who has it now, or nobody any more.
    Lost(Option<(Holder, i64)>),
}

/// The files of one lease.
#[derive(Debug, Clone)]
struct Leases {
    files: Claims,
    clock: WallClock,
}

/// Takes the lease of `view`.
///
/// Errors: [`Error::Store`], [`Error::Lease`].
pub(crate) async fn take(warehouse: &Warehouse, view: &ViewId, clock: &WallClock) -> Result<Taken> {
    let leases = Leases { files: Claims::new(warehouse, Warehouse::lease_path(view)), clock: clock.clone() };
    let me = Holder::new();
    for _ in 0..RACES {
        let newest = leases.newest().await?;
        let file = newest.as_ref().map(|(_, file)| file);
        let dead = file.is_some_and(|file| file.holder.is_dead());
        match judge(file, me.id, clock.now_ms(), dead) {
            LeaseState::Held { holder, until_ms } => return Ok(Taken::Held { holder, until_ms }),
            LeaseState::Free | LeaseState::Mine | LeaseState::Expired => {}
        }
        let number = newest.map_or(0, |(number, _)| number) + 1;
        if leases.create(number, &me, false).await? {
            return Ok(Taken::Mine(Lease { leases, me, number, over: false }));
        }
    }
    Err(Error::Lease { path: leases.files.folder().to_string(), reason: format!("others were faster {RACES} times") })
}

impl Lease {
    /// Makes it last longer from now.
    ///
    /// Errors: [`Error::Store`], [`Error::Lease`]: whether it is still held is unknown.
    pub(crate) async fn renew(&mut self) -> Result<Renewal> {
        let number = self.number + 1;
        if self.leases.create(number, &self.me, false).await? {
            self.number = number;
            return Ok(Renewal::Yes);
        }
        match self.leases.newest().await? {
            // An earlier renewal that failed had landed.
            Some((number, file)) if file.holder.id == self.me.id && !file.released => {
                self.number = number;
                Ok(Renewal::Yes)
            }
            Some((_, file)) => {
                self.over = true;
                let held = !file.released && file.holder.id != self.me.id;
                Ok(Renewal::Lost(held.then_some((file.holder, file.until_ms))))
            }
            None => {
                self.over = true;
                Ok(Renewal::Lost(None))
            }
        }
    }

    /// Does `work` while the lease is renewed; `Err` with who has it if it is lost before `work` is done.
    pub(crate) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Option<(Holder, i64)>> {
        tokio::pin!(work);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + RENEW, RENEW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = ticks.tick() => match self.renew().await {
                    Ok(Renewal::Yes) => {}
                    Ok(Renewal::Lost(to)) => return Err(to),
                    // It is tried again at the next tick, and must succeed before anything is published.
                    Err(error) => tracing::warn!(%error, "a lease was not renewed"),
                },
            }
        }
    }

    /// Gives it up.
    pub(crate) async fn release(mut self) {
        self.over = true;
        self.leases.clone().release(&self.me).await;
    }
}

impl Drop for Lease {
    /// Work that is cut off gives the lease up too, if there is still a runtime to do it.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (leases, me) = (self.leases.clone(), self.me.clone());
            runtime.spawn(async move { leases.release(&me).await });
        }
    }
}

impl Leases {
    /// Gives up what `me` holds, if it still does.
    async fn release(self, me: &Holder) {
        let released = async {
            match self.newest().await? {
                Some((number, file)) if file.holder.id == me.id && !file.released => {
                    self.create(number + 1, me, true).await
                }
                _ => Ok(true),
            }
        };
        if let Err(error) = released.await {
            tracing::debug!(%error, "a lease was not released; it ends by time");
        }
    }

    /// The file with the highest number.
    async fn newest(&self) -> Result<Option<(u64, LeaseFile)>> {
        for _ in 0..RACES {
            let Some(number) = self.numbers().await?.pop() else {
                return Ok(None);
            };
            if let Some(file) = self.read(number).await? {
                return Ok(Some((number, file)));
            }
            // Renewed and removed since the listing.
        }
        Err(Error::Lease {
            path: self.files.folder().to_string(),
            reason: "its files disappear while they are read".to_owned(),
        })
    }

    /// Creates a file of that number; true if it did, and it is the newest one.
    async fn create(&self, number: u64, me: &Holder, released: bool) -> Result<bool> {
        let file = LeaseFile { holder: me.clone(), until_ms: self.clock.now_ms() + millis_of(LASTS), released };
        let text = serde_json::to_vec(&file).map_err(|e| Error::Broken(format!("a lease cannot be written: {e}")))?;
        let is_ours = |found: &[u8]| {
            let found = serde_json::from_slice::<LeaseFile>(found);
            found.is_ok_and(|found| found.holder.id == me.id && found.released == released)
        };
        match self.files.create(number, text, is_ours).await.map_err(|e| self.failed(e))? {
            Claim::Ours => {}
            // A file that existed and is gone was a lease that someone else has renewed since.
            Claim::Taken | Claim::Failed(object_store::Error::AlreadyExists { .. }) => return Ok(false),
            Claim::Failed(error) => return Err(self.failed(error)),
        }
        let numbers = self.numbers().await?;
        // Below a newer file there may be room again, which is nobody's.
        if numbers.iter().any(|newer| *newer > number) {
            self.remove(number).await;
            return Ok(false);
        }
        // What does not count any more is litter; what remains of it is removed the next time.
        for old in numbers.into_iter().filter(|old| *old < number) {
            self.remove(old).await;
        }
        Ok(true)
    }

    async fn read(&self, number: u64) -> Result<Option<LeaseFile>> {
        let Some(text) = self.files.read(number).await.map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        // One that cannot be read holds nobody off: the compare-and-set is what counts.
        let unreadable = |e| {
            let path = self.files.path(number);
            tracing::warn!(%path, "a lease cannot be read, and is taken for free: {e}");
            LeaseFile { holder: Holder { id: Uuid::nil(), ..Holder::new() }, until_ms: 0, released: true }
        };
        Ok(Some(serde_json::from_slice(&text).unwrap_or_else(unreadable)))
    }

    async fn numbers(&self) -> Result<Vec<u64>> {
        self.files.numbers().await.map_err(|e| self.failed(e))
    }

    async fn remove(&self, number: u64) {
        if let Err(error) = self.files.remove(number).await {
            tracing::debug!(%error, "an old lease was not removed");
        }
    }

    fn failed(&self, source: object_store::Error) -> Error {
        Error::Store { path: self.files.folder().to_string(), source }
    }
}

#[cfg(test)]
mod tests;
