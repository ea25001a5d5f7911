//! Places of queries: how many may be planned and run at the same time.
//!
//! A heavy query takes only places of heavy queries, so heavy queries keep no light one from being answered. A light
//! query takes a place of the heavy ones only while half of them are free, because light is not the same as quick.
//! Invariant: a place is free again only when all work in it has ended, tasks of single operators included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::weight::Weight;
use crate::{Error, Result};

/// Long texts that are read, planned and started at the same time. What a text becomes takes hundreds of times its
/// length, and no pool counts that memory.
const LONG_TEXTS: usize = 2;

/// Queries that hold pins and wait, for each that can run.
const PINNED: usize = 8;

#[derive(Debug)]
pub(crate) struct Places {
    /// For reading and planning, which is short unless somebody means harm.
    pub(crate) plans: Arc<Semaphore>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) light: Arc<Semaphore>,
    long_texts: Arc<Semaphore>,
    /// For queries that hold pins, here or at workers, and do not run yet.
    pinned: Arc<Semaphore>,
    running: usize,
    wait: Duration,
}

impl Places {
    /// `wait` is how long a query waits for a place.
    pub(crate) fn new(heavy: usize, light: usize, wait: Duration) -> Self {
        let (heavy, light) = (heavy.max(1), light.max(1));
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            plans: places(heavy + light),
            heavy: places(heavy),
            light: places(light),
            long_texts: places(LONG_TEXTS),
            pinned: places(PINNED * (heavy + light)),
            running: heavy,
            wait,
        }
    }

    /// A place for reading or planning a query.
    ///
    /// Errors: [`Error::TooManyPlans`].
    pub(crate) async fn plan(&self) -> Result<PlanPlace> {
        let permit = self.in_time(Arc::clone(&self.plans).acquire_owned(), || Error::TooManyPlans).await?;
        Ok(PlanPlace { permit: Some(permit), is_replaced: AtomicBool::new(false) })
    }

    /// A place for a long text.
    ///
    /// Errors: [`Error::TooManyTexts`].
    pub(crate) async fn long_text(&self) -> Result<OwnedSemaphorePermit> {
        let busy = || Error::TooManyTexts { planned: LONG_TEXTS };
        self.in_time(Arc::clone(&self.long_texts).acquire_owned(), busy).await
    }

    /// A place for the time from a query's pins to its place for running.
    ///
    /// Errors: [`Error::TooManyPlans`].
    pub(crate) async fn pinned(&self) -> Result<OwnedSemaphorePermit> {
        self.in_time(Arc::clone(&self.pinned).acquire_owned(), || Error::TooManyPlans).await
    }

    /// A place for running a query.
    ///
    /// Errors: [`Error::TooBusy`].
    pub(crate) async fn run(&self, weight: Weight) -> Result<OwnedSemaphorePermit> {
        let of_kind = match weight {
            Weight::Heavy => &self.heavy,
            Weight::Light => match self.light_place_at_once() {
                Some(permit) => return Ok(permit),
                None => &self.light,
            },
        };
        let busy = || Error::TooBusy { running: self.running };
        self.in_time(Arc::clone(of_kind).acquire_owned(), busy).await
    }

    fn light_place_at_once(&self) -> Option<OwnedSemaphorePermit> {
        let light = Arc::clone(&self.light).try_acquire_owned().ok();
        let spare = || self.heavy.available_permits() * 2 >= self.running;
        light.or_else(|| spare().then(|| Arc::clone(&self.heavy).try_acquire_owned().ok()).flatten())
    }

    async fn in_time(
        &self,
        place: impl Future<Output = std::result::Result<OwnedSemaphorePermit, AcquireError>>,
        busy: impl FnOnce() -> Error,
    ) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(self.wait, place).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// A place for reading or planning. If its work is lost, another place is opened in its stead, so plans that do not end
/// keep no other one from being made.
#[derive(Debug)]
pub(crate) struct PlanPlace {
    permit: Option<OwnedSemaphorePermit>,
    is_replaced: AtomicBool,
}

impl PlanPlace {
    /// Opens another place. This one is not given back.
    pub(crate) fn replace(&self) {
        if let Some(permit) = &self.permit
            && !self.is_replaced.swap(true, Ordering::Relaxed)
        {
            permit.semaphore().add_permits(1);
        }
    }
}

impl Drop for PlanPlace {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && *self.is_replaced.get_mut()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_plan_has_its_place_replaced_once() {
        let places = Places::new(1, 1, Duration::from_millis(1));
        let (lost, other) = (places.plan().await.unwrap(), places.plan().await.unwrap());
        assert!(places.plan().await.is_err());
        lost.replace();
        lost.replace();
        let third = places.plan().await.unwrap();
        assert!(places.plan().await.is_err());
        drop((lost, other, third));
        assert_eq!(places.plans.available_permits(), 2);
    }

    #[tokio::test]
    async fn light_queries_leave_half_of_the_heavy_places() {
        let places = Places::new(4, 1, Duration::from_millis(1));
        let mut held = Vec::new();
        for expect in [true, true, true, true, false] {
            // One place of its own kind, and three while two of four are free before each.
            let place = places.run(Weight::Light).await;
            assert_eq!(place.is_ok(), expect, "{}", held.len());
            held.extend(place);
        }
        assert_eq!(held.len(), 4);
        assert!(places.run(Weight::Heavy).await.is_ok());
    }

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
