//! Descriptions of texts, kept while the catalog stays as it is.
//!
//! Clients ask for a description and then for the rows: GetFlightInfo and DoGet, Describe and Execute. A description
//! that is kept spares the first of the two plans.
//!
//! Invariant: a description depends on its key and on the catalog alone. Those of an earlier catalog are never told.
//! Errors are not kept, so what was refused is looked at again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use parking_lot::Mutex;
use thalweg_schemas::catalog::Catalog;

use crate::options::SourceLayer;
use crate::parameters::Declared;
use crate::recent::{Recent, RecentLimits};

/// The descriptions of one process.
const LIMITS: RecentLimits = RecentLimits { count: 4_000, bytes: 32 << 20, within: Duration::from_secs(10 * 60) };

/// Bytes around the name of a table.
const TABLE_BYTES: usize = 96;

/// What is known of a text without running it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    /// The types of `$1`, `$2`, …
    pub(crate) parameters: Vec<DataType>,
    /// The columns of the answer; `None` for definitions.
    pub(crate) columns: Option<SchemaRef>,
    /// The tables that are read.
    pub(crate) tables: Vec<TableReference>,
}

impl Description {
    /// The most bytes that it takes; fields share what they can.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.columns.as_ref().map_or(0, |columns| columns.fields().size());
        let parameters: usize = self.parameters.iter().map(DataType::size).sum();
        let tables: usize = self.tables.iter().map(|table| table.to_string().len() + TABLE_BYTES).sum();
        columns + parameters + tables
    }
}

/// What a description depends on beside the catalog. Of a request's options, its layer alone decides about columns.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DescribedText {
    pub(super) sql: String,
    pub(super) declared: Declared,
    pub(super) source: SourceLayer,
}

impl DescribedText {
    fn bytes(&self) -> usize {
        let declared = self.declared.iter().flatten().map(DataType::size);
        self.sql.len() + std::mem::size_of_val(self.declared.as_slice()) + declared.sum::<usize>()
    }
}

/// The descriptions that are kept.
pub(super) struct Descriptions {
    limits: RecentLimits,
    kept: Mutex<KeptDescriptions>,
}

struct KeptDescriptions {
    /// The catalog that all of them are of.
    catalog: Weak<Catalog>,
    recent: Recent<Arc<DescribedText>, Arc<Description>>,
}

impl Default for Descriptions {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl Descriptions {
    fn new(limits: RecentLimits) -> Self {
        let kept = KeptDescriptions { catalog: Weak::new(), recent: Recent::new(limits) };
        Self { limits, kept: Mutex::new(kept) }
    }

    /// The description of a text in the definitions of `catalog`.
    pub(super) fn find(&self, catalog: &Arc<Catalog>, text: &DescribedText) -> Option<Arc<Description>> {
        let mut kept = self.kept.lock();
        match is_of(&kept.catalog, catalog) {
            true => kept.recent.use_now(text, Instant::now()).cloned(),
            false => None,
        }
    }

    /// Keeps a description in the definitions of `catalog`, if they are the newest ones, which `newest` returns.
    pub(super) fn keep(
        &self,
        catalog: &Arc<Catalog>,
        newest: impl FnOnce() -> Arc<Catalog>,
        text: DescribedText,
        description: &Arc<Description>,
    ) {
        let mut kept = self.kept.lock();
        if !Arc::ptr_eq(catalog, &newest()) {
            return;
        }
        if !is_of(&kept.catalog, catalog) {
            *kept = KeptDescriptions { catalog: Arc::downgrade(catalog), recent: Recent::new(self.limits) };
        }
        let bytes = text.bytes() + description.bytes();
        // One that is larger than all may be together is made again each time.
        let _ = kept.recent.keep(Arc::new(text), Arc::clone(description), bytes, Instant::now());
    }
}

/// True if `weak` is of this very catalog. Another one is never at its address, which `weak` holds.
fn is_of(weak: &Weak<Catalog>, catalog: &Arc<Catalog>) -> bool {
    std::ptr::eq(weak.as_ptr(), Arc::as_ptr(catalog))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn text(sql: &str) -> DescribedText {
        DescribedText { sql: sql.to_owned(), declared: Declared::new(), source: SourceLayer::Merged }
    }

    fn description(columns: usize) -> Arc<Description> {
        let fields = (0..columns).map(|n| Field::new(format!("{n}").repeat(20), DataType::Int64, true));
        let columns = Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
        Arc::new(Description { parameters: Vec::new(), columns, tables: Vec::new() })
    }

    #[test]
    fn descriptions_are_of_one_catalog() {
        let (kept, one) = (Descriptions::default(), description(1));
        let [old, new] = [(); 2].map(|()| Arc::new(Catalog::default()));
        assert!(kept.find(&old, &text("a")).is_none());
        kept.keep(&old, || Arc::clone(&old), text("a"), &one);
        assert_eq!(kept.find(&old, &text("a")), Some(Arc::clone(&one)));
        // Equal catalogs are not the same one.
        assert!(kept.find(&new, &text("a")).is_none());
        // A description that took longer than the change is not kept.
        kept.keep(&old, || Arc::clone(&new), text("b"), &one);
        assert!(kept.find(&old, &text("b")).is_none());
        kept.keep(&new, || Arc::clone(&new), text("b"), &one);
        assert!(kept.find(&old, &text("a")).is_none() && kept.find(&new, &text("a")).is_none());
        assert!(kept.find(&new, &text("b")).is_some());
    }

    #[test]
    fn a_key_has_all_that_decides() {
        let (kept, catalog) = (Descriptions::default(), Arc::new(Catalog::default()));
        kept.keep(&catalog, || Arc::clone(&catalog), text("a"), &description(1));
        for other in [
            text("A"),
            text("a "),
            DescribedText { declared: vec![None], ..text("a") },
            DescribedText { declared: vec![Some(DataType::Int64)], ..text("a") },
            DescribedText { source: SourceLayer::Batch, ..text("a") },
            DescribedText { source: SourceLayer::Speed, ..text("a") },
        ] {
            assert!(kept.find(&catalog, &other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn their_number_and_their_bytes_are_bounded() {
        let limits = RecentLimits { count: 50, bytes: 100_000, ..LIMITS };
        let (kept, catalog) = (Descriptions::new(limits), Arc::new(Catalog::default()));
        let keep = |text, columns| kept.keep(&catalog, || Arc::clone(&catalog), text, &description(columns));
        keep(text("first"), 1);
        for number in 0..20 {
            keep(text(&number.to_string()), 100);
        }
        assert!(kept.find(&catalog, &text("first")).is_none(), "columns are not counted");
        keep(text("second"), 1);
        for number in 0..20 {
            keep(text(&number.to_string().repeat(10_000)), 1);
        }
        assert!(kept.find(&catalog, &text("second")).is_none(), "texts are not counted");
        keep(text("third"), 2_000);
        assert!(kept.find(&catalog, &text("third")).is_none());
        assert!(kept.kept.lock().recent.bytes() <= limits.bytes);
        for number in 0..=limits.count {
            keep(text(&number.to_string()), 1);
        }
        assert_eq!(kept.kept.lock().recent.len(), limits.count);
    }
}
