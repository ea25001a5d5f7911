//! `changes('view')` in a query that is to end.
//!
//! Invariant: the function is refused here. A COPY over PostgreSQL that reads changes never comes to the planner.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};

/// The name of the function.
pub(super) const CHANGES: &str = "changes";

/// Says where the changes of a view can be had.
#[derive(Debug)]
pub(super) struct EndlessChanges;

impl TableFunctionImpl for EndlessChanges {
    fn call_with_args(&self, _: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        plan_err!(
            "changes('view') has rows without an end, so it stands alone in a COPY over PostgreSQL: COPY (SELECT * FROM \
             changes('view')) TO STDOUT; over HTTP it is GET /v1/views/VIEW/changes"
        )
    }
}
