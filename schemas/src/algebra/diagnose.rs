//! What is wrong with a query that does not compile, with places in its text.
//!
//! It plans once more, with places kept: compiled views are planned without, because their ids must not depend on how
//! a query is laid out. Invariant: it finds nothing wrong with a query that the planner and the analyser accept.

use std::sync::Arc;

use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::Result;
use crate::definition::stream::StreamDefinition;
use crate::engine::session;
use crate::error::complaint::Complaint;

/// What the planner has against `query` over `stream`.
///
/// Errors: no session can be made.
pub async fn diagnose(query: &str, stream: &StreamDefinition) -> Result<Vec<Complaint>> {
    let mut config = session::config(1);
    config.options_mut().sql_parser.collect_spans = true;
    let env = session::runtime(None, None, None)?;
    let session = SessionContext::new_with_config_rt(config, env);
    let found = plan(&session, query, stream).await;
    Ok(found.err().iter().flat_map(Complaint::all).collect())
}

async fn plan(session: &SessionContext, query: &str, stream: &StreamDefinition) -> Result<(), DataFusionError> {
    let table = Arc::new(EmptyTable::new(stream.table_schema()));
    session.register_table(stream.name.as_str(), table)?;
    let state = session.state();
    let plan = state.create_logical_plan(query).await?;
    let analyzer = state.analyzer();
    analyzer.execute_and_check(plan, state.config_options(), |_, _| {})?;
    Ok(())
}
