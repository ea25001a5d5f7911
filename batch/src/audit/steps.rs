//! The next step of an audit after a comparison of the held segments succeeded or failed.
//!
//! Invariant: an audit waits a limited time for a snapshot that is not older than the newest cut. No audit passes
//! because there was nothing to compare.

use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::api::audits::AuditReport;
use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion};
use thalweg_schemas::{Fault, Frontier};

use crate::Result;
use crate::archive::Archive;
use crate::view_table::ViewTable;

/// Longest time that an audit waits for segments without gaps, and for one new snapshot.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// The next step of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditStep {
    /// Send the outcome to the client.
    Answer,
    /// Compare again after a pause.
    Again(Duration),
    /// No segments are held below the newest mark: the speed layer rebuilds the segments between the origin and the
    /// cut. The rebuilt segments are compared with the published states.
    Rebuild,
}

impl AuditStep {
    /// The step after `outcome`, when the audit has waited for `waited`.
    pub fn after(outcome: Result<&AuditReport, Fault>, waited: Duration) -> Self {
        match outcome {
            Err(Fault::Transient) if waited < WAIT => AuditStep::Again(PAUSE),
            Ok(report) if report.parts.is_empty() => AuditStep::Rebuild,
            Ok(_) | Err(_) => AuditStep::Answer,
        }
    }
}

/// The published range of a view, from its stream's origin to its cut.
#[derive(Debug, Clone)]
pub struct PublishedRange {
    pub stream: Arc<CatalogStream>,
    pub version: Arc<BatchVersion>,
    /// The master version; its rows reach at least to the cut.
    pub master: Arc<MasterVersion>,
    /// The cut, including every partition that the origin names.
    pub cut: Frontier,
}

impl PublishedRange {
    /// The newest range; `None` if nothing is published above the origin.
    ///
    /// Errors: storage failed.
    pub async fn find(warehouse: &Warehouse, catalog: &Catalog, view: &CompiledView) -> Result<Option<Self>> {
        let plan = &view.plan;
        let Some(stream) = catalog.streams.get(plan.stream()) else {
            return Ok(None);
        };
        let mut table = ViewTable::open(warehouse, plan.id(), plan.stored_schema()).await?;
        let version = match table.latest().await? {
            Some(version) if version.cut.distance(&stream.origin) > 0 => version,
            _ => return Ok(None),
        };
        let archive = Archive::find(warehouse, &stream.definition, stream.origin.clone()).await?;
        let Some(mut archive) = archive else { return Ok(None) };
        let (master, cut) = (archive.latest().await?, version.cut.or(&stream.origin));
        Ok(Some(Self { stream: Arc::clone(stream), version, master, cut }))
    }
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::api::audits::{Against, AuditPart};
    use thalweg_schemas::realtime::segment::Provenance;
    use thalweg_schemas::{ViewId, ViewName};

    use super::*;

    fn report(parts: usize) -> AuditReport {
        let part = AuditPart {
            provenance: Provenance::Live,
            against: Against::Archive,
            segments: 1,
            offsets: 1,
            groups: 1,
            differences: Vec::new(),
            more: 0,
        };
        AuditReport {
            view: ViewName::new("v").unwrap(),
            id: ViewId::of(&["v"]),
            cut: Frontier::new(),
            from: Frontier::new(),
            to: Frontier::new(),
            parts: vec![part; parts],
        }
    }

    #[test]
    fn every_outcome_has_its_step() {
        let (nothing, something) = (report(0), report(1));
        for (outcome, waited, expect) in [
            (Ok(&something), Duration::ZERO, AuditStep::Answer),
            (Ok(&something), WAIT, AuditStep::Answer),
            (Ok(&nothing), Duration::ZERO, AuditStep::Rebuild),
            (Ok(&nothing), WAIT, AuditStep::Rebuild),
            (Err(Fault::Transient), Duration::ZERO, AuditStep::Again(PAUSE)),
            (Err(Fault::Transient), WAIT, AuditStep::Answer),
            (Err(Fault::User), Duration::ZERO, AuditStep::Answer),
            (Err(Fault::Bug), Duration::ZERO, AuditStep::Answer),
        ] {
            assert_eq!(AuditStep::after(outcome, waited), expect, "{outcome:?} after {waited:?}");
        }
    }
}
