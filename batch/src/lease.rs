//! A lease for each view: allows one run of a view at a time, so that no two processes compute the same states. The
//! amendments of a stream have leases too, so that no two processes prepare the same ones.
//!
//! A lease consists of numbered files in the warehouse, `leases/<view id>/NNNNNNNN.json`, which are [`Claims`]. The
//! file with the highest number is valid. Taking, renewing and releasing a lease each create the next file.
//!
//! Invariant: a lease only saves work and memory. No publication depends on a lease or a clock; the compare-and-set
//! of the view's table decides.

mod file;

use std::time::Duration;

use object_store::path::Path;
use thalweg_schemas::clock::{WallClock, millis_of};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::claims::{Claim, Claims};
use thalweg_schemas::{Partition, StreamName, ViewId};
use uuid::Uuid;

pub use self::file::Holder;
use self::file::{LeaseFile, LeaseState, judge};
use crate::{Error, Result};

/// Lifetime of a lease without renewal, and the time between renewals. After a holder on another machine dies, other
/// processes wait for this lifetime plus the possible difference of the clocks.
const LASTS: Duration = Duration::from_secs(20);
const RENEW: Duration = Duration::from_secs(5);
/// Lost races after which a run gives up.
const RACES: usize = 16;

/// A lease of this process.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    me: Holder,
    /// Number of the newest file, which this process wrote.
    number: u64,
    /// True once the lease is released or lost.
    over: bool,
}

/// The answer to a request for a lease.
#[derive(Debug)]
pub(crate) enum Taken {
    Mine(Lease),
    Held { holder: Holder, until_ms: i64 },
}

/// The result of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    Yes,
    /// Another run took the lease. Holds the present holder and the end of its lease, if there is a holder.
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
    take_in(warehouse, Warehouse::lease_path(view), clock).await
}

/// Takes the lease of the amendments of `stream` in one of their partitions.
///
/// Errors: as [`take`].
pub(crate) async fn take_amendments(
    warehouse: &Warehouse,
    stream: &StreamName,
    partition: Partition,
    clock: &WallClock,
) -> Result<Taken> {
    take_in(warehouse, Warehouse::amendments_lease_path(stream, partition), clock).await
}

async fn take_in(warehouse: &Warehouse, folder: Path, clock: &WallClock) -> Result<Taken> {
    let leases = Leases { files: Claims::new(warehouse, folder), clock: clock.clone() };
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
    /// Extends the lease from now.
    ///
    /// Errors: [`Error::Store`], [`Error::Lease`]: it is unknown then whether the lease is still held.
    pub(crate) async fn renew(&mut self) -> Result<Renewal> {
        let number = self.number + 1;
        if self.leases.create(number, &self.me, false).await? {
            self.number = number;
            return Ok(Renewal::Yes);
        }
        match self.leases.newest().await? {
            // An earlier renewal returned an error but had landed.
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

    /// Runs `work` and renews the lease meanwhile. If the lease is lost before `work` is done, returns its new
    /// holder.
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
                    // The next tick retries. A renewal must succeed before the publication.
                    Err(error) => tracing::warn!(%error, "a lease was not renewed"),
                },
            }
        }
    }

    /// Releases the lease.
    pub(crate) async fn release(mut self) {
        self.over = true;
        self.leases.clone().release(&self.me).await;
    }
}

impl Drop for Lease {
    /// Releases the lease of cancelled work, if a runtime is still there.
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
    /// Releases the lease if `me` still holds it.
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
            // The file was removed after the listing, because its holder renewed the lease.
        }
        Err(Error::Lease {
            path: self.files.folder().to_string(),
            reason: "its files disappear while they are read".to_owned(),
        })
    }

    /// Creates the file with this number. Returns true if this process wrote the file and the file is the newest.
    async fn create(&self, number: u64, me: &Holder, released: bool) -> Result<bool> {
        let file = LeaseFile { holder: me.clone(), until_ms: self.clock.now_ms() + millis_of(LASTS), released };
        let text = serde_json::to_vec(&file).map_err(|e| Error::Broken(format!("a lease cannot be written: {e}")))?;
        let is_ours = |found: &[u8]| {
            let found = serde_json::from_slice::<LeaseFile>(found);
            found.is_ok_and(|found| found.holder.id == me.id && found.released == released)
        };
        match self.files.create(number, text, is_ours).await.map_err(|e| self.failed(e))? {
            Claim::Ours => {}
            // The file existed and is gone: another process has renewed the lease since.
            Claim::Taken | Claim::Failed(object_store::Error::AlreadyExists { .. }) => return Ok(false),
            Claim::Failed(error) => return Err(self.failed(error)),
        }
        let numbers = self.numbers().await?;
        // A number below a newer file may be free again, but gives no right to the lease.
        if numbers.iter().any(|newer| *newer > number) {
            self.remove(number).await;
            return Ok(false);
        }
        // Older files are obsolete. The next call removes the files that remain here.
        for old in numbers.into_iter().filter(|old| *old < number) {
            self.remove(old).await;
        }
        Ok(true)
    }

    async fn read(&self, number: u64) -> Result<Option<LeaseFile>> {
        let Some(text) = self.files.read(number).await.map_err(|e| self.failed(e))? else {
            return Ok(None);
        };
        // An unreadable file blocks nobody, because the compare-and-set protects the publication.
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
