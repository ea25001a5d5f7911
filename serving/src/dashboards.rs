//! The dashboards of the web console, kept in the warehouse: `dashboards/<name>/NNNNNNNN.json`, which are [`Claims`].
//!
//! A save, and a deletion too, creates the file after the newest one. So of two editors that have read the same version
//! one is refused, on every object store and through any number of servers. After a deletion the numbers go on: a
//! client that has read an old version never overwrites a new dashboard of the same name.
//!
//! Invariant: a version is never overwritten. The newest [`KEPT`] files of a dashboard are kept.

use std::collections::BTreeMap;

use datafusion::object_store;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use thalweg_schemas::api::dashboards::{
    Dashboard, DashboardChange, DashboardEntry, DashboardList, SavedDashboard, TileKind,
};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::claims::{Claim, Claims};

use crate::{Error, Result};

/// The longest dashboard, in bytes as JSON.
const LONGEST: usize = 256 << 10;
/// The longest name, and the longest title in characters.
const LONGEST_NAME: usize = 63;
const LONGEST_TITLE: usize = 200;
/// Seconds between two queries of a tile, at most.
const LONGEST_REFRESH: u32 = 3600;
const MOST_TILES: usize = 100;
/// Dashboards of a warehouse, deleted ones included.
const MOST: usize = 1000;
/// Versions that are kept of each. A writer that stands still during so many saves of others, between reading the
/// newest number and creating the next, could create a number that was removed; its request is over long before.
const KEPT: u64 = 20;
/// Files that a list reads at the same time.
const AT_ONCE: usize = 16;
/// A file that was listed can be gone when it is read, because others have saved meanwhile.
const ATTEMPTS: usize = 5;

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    /// `None` if this version is the deletion.
    dashboard: Option<Dashboard>,
}

/// The dashboards of a warehouse; cheap to make.
#[derive(Debug, Clone)]
pub(crate) struct Dashboards {
    warehouse: Warehouse,
}

impl Dashboards {
    pub(crate) fn of(warehouse: &Warehouse) -> Self {
        Self { warehouse: warehouse.clone() }
    }

    /// All dashboards by name. One that cannot be read is listed under its name, so that it can be deleted.
    ///
    /// Errors: [`Error::StoreDashboard`].
    pub(crate) async fn list(&self) -> Result<DashboardList> {
        let names = self.names().await?.into_iter();
        let read = stream::iter(names).map(async |name| match self.newest(&name).await {
            Ok(Some((version, Version { dashboard: Some(dashboard) }))) => {
                Ok(Some(DashboardEntry { name, version, title: dashboard.title }))
            }
            Ok(_) => Ok(None),
            Err(Error::UnderstandDashboard { name, version, .. }) => {
                Ok(Some(DashboardEntry { title: name.clone(), name, version }))
            }
            Err(error) => Err(error),
        });
        let entries: Vec<Option<DashboardEntry>> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(DashboardList { dashboards: entries.into_iter().flatten().collect() })
    }

    /// Errors: [`Error::FindDashboard`], [`Error::UnderstandDashboard`], [`Error::StoreDashboard`].
    pub(crate) async fn read(&self, name: &str) -> Result<SavedDashboard> {
        check_name(name)?;
        match self.newest(name).await? {
            Some((version, Version { dashboard: Some(dashboard) })) => {
                Ok(SavedDashboard { name: name.to_owned(), version, dashboard })
            }
            _ => Err(Error::FindDashboard { name: name.to_owned() }),
        }
    }

    /// Replaces the version that the client has read, or creates the dashboard if that version is 0.
    ///
    /// Errors: [`Error::NameDashboard`], [`Error::ReadRequest`], [`Error::SaveDashboard`], [`Error::CountDashboards`],
    /// [`Error::StoreDashboard`].
    pub(crate) async fn save(&self, name: &str, change: DashboardChange) -> Result<DashboardEntry> {
        check_name(name)?;
        check(&change.dashboard)?;
        let title = change.dashboard.title.clone();
        let version = self.replace(name, change.version, Some(change.dashboard)).await?;
        Ok(DashboardEntry { name: name.to_owned(), version, title })
    }

    /// Errors: [`Error::FindDashboard`], [`Error::SaveDashboard`], [`Error::StoreDashboard`].
    pub(crate) async fn delete(&self, name: &str, version: u64) -> Result<()> {
        check_name(name)?;
        if version == 0 {
            return Err(Error::FindDashboard { name: name.to_owned() });
        }
        self.replace(name, version, None).await.map(drop)
    }

    /// Creates the version after `read`, which must be the newest one. Returns the new version.
    async fn replace(&self, name: &str, read: u64, dashboard: Option<Dashboard>) -> Result<u64> {
        let conflict = || Error::SaveDashboard { name: name.to_owned(), version: read };
        let (newest, exists) = match self.newest(name).await {
            Ok(None) => (0, false),
            Ok(Some((number, version))) => (number, version.dashboard.is_some()),
            // It can be replaced without being understood.
            Err(Error::UnderstandDashboard { version, .. }) => (version, true),
            Err(error) => return Err(error),
        };
        match (exists, read) {
            (true, read) if read == newest => {}
            (false, 0) => {}
            (false, _) if dashboard.is_none() => return Err(Error::FindDashboard { name: name.to_owned() }),
            _ => return Err(conflict()),
        }
        if newest == 0 && self.names().await?.len() >= MOST {
            return Err(Error::CountDashboards { most: MOST });
        }
        let content = serde_json::to_vec(&Version { dashboard })
            .map_err(|e| Error::ReadRequest { reason: format!("the dashboard cannot be written as JSON: {e}") })?;
        let files = self.files(name);
        // Who writes the same bytes at the same number wants the same.
        let claim = files.create(newest + 1, content.clone(), |found| found == content).await;
        match claim.map_err(|source| store_failed(name, source))? {
            Claim::Ours => {}
            Claim::Taken => return Err(conflict()),
            Claim::Failed(source) => return Err(store_failed(name, source)),
        }
        self.forget_old(&files, newest + 1).await;
        Ok(newest + 1)
    }

    /// Removes versions beyond [`KEPT`]. What cannot be removed now is removed after a later save.
    async fn forget_old(&self, files: &Claims, newest: u64) {
        let Ok(numbers) = files.numbers().await else { return };
        for number in numbers.into_iter().filter(|number| number + KEPT <= newest) {
            if let Err(error) = files.remove(number).await {
                tracing::debug!(%error, number, folder = %files.folder(), "an old version of a dashboard stays");
            }
        }
    }

    /// The newest version of a dashboard with its number; `None` if there was never one.
    async fn newest(&self, name: &str) -> Result<Option<(u64, Version)>> {
        let files = self.files(name);
        for _ in 0..ATTEMPTS {
            let numbers = files.numbers().await.map_err(|source| store_failed(name, source))?;
            let Some(&number) = numbers.last() else { return Ok(None) };
            if let Some(content) = files.read(number).await.map_err(|source| store_failed(name, source))? {
                let version = serde_json::from_slice(&content).map_err(|e| Error::UnderstandDashboard {
                    name: name.to_owned(),
                    version: number,
                    reason: e.to_string(),
                })?;
                return Ok(Some((number, version)));
            }
        }
        Err(Error::SaveDashboard { name: name.to_owned(), version: 0 })
    }

    /// The names of all dashboards, deleted ones included. Other folders are ignored.
    async fn names(&self) -> Result<Vec<String>> {
        let store = self.warehouse.store();
        let folder = Warehouse::dashboards_path();
        let listed = store.list_with_delimiter(Some(&folder)).await.map_err(|source| store_failed("", source))?;
        let folders = listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
        let sorted: BTreeMap<String, ()> = folders.filter(|name| is_name(name)).map(|name| (name, ())).collect();
        Ok(sorted.into_keys().collect())
    }

    fn files(&self, name: &str) -> Claims {
        Claims::new(&self.warehouse, Warehouse::dashboard_path(name))
    }
}

fn store_failed(name: &str, source: object_store::Error) -> Error {
    Error::StoreDashboard { name: name.to_owned(), source }
}

/// True for names that are the same on every file system and in every address.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && name.len() <= LONGEST_NAME && name.bytes().all(inner)
}

fn check_name(name: &str) -> Result<()> {
    if is_name(name) { Ok(()) } else { Err(Error::NameDashboard { name: name.to_owned(), longest: LONGEST_NAME }) }
}

/// Errors: [`Error::ReadRequest`], [`Error::ReadLongRequest`].
fn check(dashboard: &Dashboard) -> Result<()> {
    let bad = |reason: String| Err(Error::ReadRequest { reason });
    let length = serde_json::to_vec(dashboard).map_or(usize::MAX, |text| text.len());
    if length > LONGEST {
        let reason = format!("the dashboard is longer than {} KiB; make two of it", LONGEST >> 10);
        return Err(Error::ReadLongRequest { reason });
    }
    if dashboard.title.trim().is_empty() {
        return bad("a dashboard has a title".into());
    }
    let titles = dashboard.tiles.iter().map(|tile| &tile.title).chain([&dashboard.title]);
    if titles.into_iter().any(|title| title.chars().count() > LONGEST_TITLE) {
        return bad(format!("a title has at most {LONGEST_TITLE} characters"));
    }
    if !(1..=LONGEST_REFRESH).contains(&dashboard.refresh_seconds) {
        return bad(format!("refresh_seconds is from 1 to {LONGEST_REFRESH}"));
    }
    if dashboard.tiles.len() > MOST_TILES {
        return bad(format!("a dashboard has at most {MOST_TILES} tiles"));
    }
    if dashboard.tiles.iter().any(|tile| tile.kind == TileKind::Unknown) {
        let kinds: Vec<&str> = TileKind::ALL.iter().map(|kind| kind.as_str()).collect();
        return bad(format!("the kind of a tile is one of {}", kinds.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
