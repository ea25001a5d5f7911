//! DataFusion sessions for all layers. The settings that the meaning of a view depends on are set only here.
//!
//! Invariant: two sessions made here give the same plan for the same SQL, with any memory pool and any parallelism.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;

use super::guarded::{self, GuardedPlanner};
use super::sql_types::MicrosecondTypes;
use super::unnest::UnnestJoins;
use super::{analysis, functions, same_types};
use crate::warehouse::Warehouse;
use crate::{Error, Result};

/// The engine version whose stored states this program can read; part of every view id.
pub const ENGINE: &str = concat!("datafusion ", "55", "; thalweg states 2");

/// A runtime with the warehouse registered. `memory` is in bytes; `None` means unlimited. Operators that support
/// spilling write to the folder `spill`.
///
/// Errors: [`Error::RunPlan`] if the spill folder cannot be used.
pub fn runtime(
    warehouse: Option<&Warehouse>,
    memory: Option<usize>,
    spill: Option<PathBuf>,
) -> Result<Arc<RuntimeEnv>> {
    let pool: Arc<dyn MemoryPool> = match memory {
        Some(bytes) => Arc::new(FairSpillPool::new(bytes)),
        None => Arc::new(UnboundedMemoryPool::default()),
    };
    let mut builder = RuntimeEnvBuilder::new().with_memory_pool(pool);
    if let Some(folder) = spill {
        builder = builder.with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![folder])),
        );
    }
    let env = builder.build_arc().map_err(|source| Error::RunPlan { what: "preparing a runtime", source })?;
    if let Some(warehouse) = warehouse {
        warehouse.register(&env);
    }
    Ok(env)
}

/// The settings that the meaning of SQL depends on, and the parallelism, which does not affect the meaning.
pub fn config(target_partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(target_partitions.max(1))
        .with_information_schema(true)
        .with_collect_statistics(false);
    let options = config.options_mut();
    // Canonical types have no view types: values read back from the archive would have another type.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.time_zone = Some("+00:00".into());
    // The rule loses the names of columns that a projection below has renamed (docs/engine-faults.md).
    options.optimizer.enable_leaf_expression_pushdown = false;
    config
}

/// A session state with DataFusion's functions and rules, and with the replacements for those that are not exact.
pub fn state(env: Arc<RuntimeEnv>, target_partitions: usize) -> SessionState {
    state_with(config(target_partitions), env)
}

/// Like [`state`], with settings that [`config`] has made.
pub fn state_with(config: SessionConfig, env: Arc<RuntimeEnv>) -> SessionState {
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(env)
        .with_default_features()
        .with_analyzer_rules(analysis::rules())
        .with_optimizer_rules(same_types::held(guarded::rules()))
        .with_query_planner(Arc::new(GuardedPlanner))
        .with_type_planner(Arc::new(MicrosecondTypes))
        .with_relation_planners(vec![Arc::new(UnnestJoins)])
        .build();
    // A session's registry is a map in memory, and the engine has the functions that are replaced.
    functions::register(&mut state).expect("functions of the engine can be replaced");
    state
}

/// A session over [`state`].
pub fn context(env: Arc<RuntimeEnv>, target_partitions: usize) -> SessionContext {
    SessionContext::new_with_state(state(env, target_partitions))
}
