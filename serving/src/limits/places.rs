//! Places of queries: how many may be planned and run at the same time.
//!
//! A light query can take a place of either kind, a heavy one only those of heavy queries. So heavy queries keep no
//! light one from being answered. Invariant: a place is free again only when all work in it has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::weight::Weight;
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Places {
    /// For reading and planning, which is short unless somebody means harm.
    pub(crate) plans: Arc<Semaphore>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) light: Arc<Semaphore>,
    running: usize,
    wait: Duration,
}

impl Places {
    /// `wait` is how long a query waits for a place.
    pub(crate) fn new(heavy: usize, light: usize, wait: Duration) -> Self {
        let (heavy, light) = (heavy.max(1), light.max(1));
        let places = |count| Arc::new(Semaphore::new(count));
        Self { plans: places(heavy + light), heavy: places(heavy), light: places(light), running: heavy, wait }
    }

    /// A place for reading or planning a query.
    ///
    /// Errors: [`Error::TooBusy`].
    pub(crate) async fn plan(&self) -> Result<OwnedSemaphorePermit> {
        self.in_time(Arc::clone(&self.plans).acquire_owned()).await
    }

    /// A place for running a query.
    ///
    /// Errors: [`Error::TooBusy`].
    pub(crate) async fn run(&self, weight: Weight) -> Result<OwnedSemaphorePermit> {
        let heavy = Arc::clone(&self.heavy).acquire_owned();
        let light = Arc::clone(&self.light).acquire_owned();
        self.in_time(async {
            match weight {
                Weight::Heavy => heavy.await,
                Weight::Light => tokio::select! {
                    biased;
                    permit = light => permit,
                    permit = heavy => permit,
                },
            }
        })
        .await
    }

    async fn in_time(
        &self,
        place: impl Future<Output = std::result::Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(self.wait, place).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::TooBusy { running: self.running }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn heavy_queries_leave_places_to_light_ones() {
        let places = Places::new(2, 1, Duration::from_millis(1));
        let mut held = Vec::new();
        for (weight, expect) in [
            (Weight::Heavy, true),
            (Weight::Heavy, true),
            (Weight::Heavy, false),
            (Weight::Light, true),
            (Weight::Light, false),
        ] {
            let place = places.run(weight).await;
            assert_eq!(place.is_ok(), expect, "{weight:?}");
            held.extend(place);
        }
        drop(held.remove(0));
        held.extend(places.run(Weight::Light).await);
        assert_eq!(held.len(), 3);
    }
}
