//! Files that a client of the server has loaded: `COPY stream FROM 'files'`.
//!
//! Invariant: a client reaches only files below a place that the setting `copy_from` names.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use thalweg_batch::{BatchConfig, LoadPlan, LoadedReport, load};
use thalweg_schemas::definition::statement::CopiedFiles;
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::files::{FileFormat, RowNotes};
use thalweg_schemas::{Fault, Shared};
use thalweg_serving::{Call, CallError};

use super::calls::{Runs, compute, failed};
use crate::config::Settings;

/// Notes on files that are told.
const NOTES: usize = 10;

/// The inputs of loads.
#[derive(Clone)]
pub(super) struct Loads {
    shared: Shared,
    threads: Arc<Threads>,
    config: BatchConfig,
    /// Paths and URLs below which files are loaded.
    places: Vec<String>,
    storage: BTreeMap<String, String>,
}

impl Loads {
    pub(super) fn of(settings: &Settings, runs: &Runs) -> Self {
        let (shared, threads, config) = runs.parts();
        Self { shared, threads, config, places: settings.copy_from.clone(), storage: settings.storage() }
    }

    /// Returns what `COPY` calls.
    pub(super) fn call(&self) -> Call<CopiedFiles, (String, Vec<String>)> {
        let loads = self.clone();
        Arc::new(move |files| {
            let loads = loads.clone();
            compute(Arc::clone(&loads.threads), loads.run(files)).boxed()
        })
    }

    async fn run(self, files: CopiedFiles) -> Result<(String, Vec<String>), CallError> {
        let refuse = |message: String| CallError { fault: Fault::User, message };
        if self.places.is_empty() {
            return Err(refuse(
                "the setting copy_from names no place whose files clients may load; name some, or use `thalweg load`"
                    .to_owned(),
            ));
        }
        let catalog = Arc::clone(&self.shared.catalog.borrow());
        let name = &files.stream;
        let stream = catalog.streams.get(name).ok_or_else(|| refuse(format!("there is no stream `{name}`")))?;
        let plan = LoadPlan {
            from: vec![files.from],
            within: Some(self.places),
            format: files.format.as_deref().and_then(FileFormat::parse),
            skip_bad: false,
            dry_run: false,
            storage: self.storage,
        };
        let notes = Arc::new(RowNotes::default());
        let loaded = load(&self.shared.warehouse, stream, &plan, &self.config, &notes, |_| ()).await.map_err(failed)?;
        let mut told = notes.take_notes();
        told.truncate(NOTES);
        Ok((LoadedReport { loaded: &loaded, dry_run: false, skipped: 0 }.to_string(), told))
    }
}
