//! Functions whose values can be far larger than their arguments, such as `repeat`, within a query's allowance.
//!
//! Invariant: a function of [`NAMES`] in a query runs only after the bytes of its values were found to fit.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::ScalarUDF;
pub(crate) use thalweg_schemas::engine::lengths::NAMES;
use thalweg_schemas::engine::lengths::{ResultBudget, budgeted};

use super::allowance::Allowance;

/// `function` for one query, with a check.
pub(crate) fn checked(function: &Arc<ScalarUDF>, allowance: &Arc<Allowance>) -> Arc<ScalarUDF> {
    budgeted(function, Arc::<Allowance>::clone(allowance))
}

impl ResultBudget for Allowance {
    fn room(&self) -> usize {
        self.call_bytes()
    }

    fn admit(&self, function: &str, rows: usize, bytes: usize) -> Result<MemoryReservation> {
        self.check()?;
        if let Some(error) = self.too_wide(rows, bytes, self.call_bytes()) {
            return Err(error);
        }
        let held = self.reserve(function);
        held.try_grow(bytes)?;
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use datafusion::error::DataFusionError;
    use datafusion::execution::FunctionRegistry;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::prelude::SessionContext;
    use thalweg_schemas::engine::session;

    use super::*;
    use crate::limits::allowance::Terms;

    const MEMORY: usize = 8 << 20;

    fn allowance(can_restart: bool) -> Arc<Allowance> {
        let terms = Terms {
            deadline: Instant::now() + Duration::from_secs(3600),
            time: Duration::from_secs(3600),
            memory: MEMORY,
            threads: 1,
            batch_rows: 8192,
            join_rows: BTreeMap::new(),
            can_restart,
        };
        Arc::new(Allowance::new(&terms, Arc::new(GreedyMemoryPool::new(MEMORY))))
    }

    async fn run(sql: &str, allowance: &Arc<Allowance>) -> std::result::Result<usize, DataFusionError> {
        let mut state = session::state(session::runtime(None, None, None).unwrap(), 1);
        for name in NAMES {
            let function = Arc::clone(&state.scalar_functions()[name]);
            state.register_udf(checked(&function, allowance))?;
        }
        let batches = SessionContext::new_with_state(state).sql(sql).await?.collect().await?;
        Ok(batches.iter().map(|batch| batch.num_rows()).sum())
    }

    #[tokio::test]
    async fn results_count_in_the_memory_of_their_query() {
        let of = |width: usize| {
            format!("SELECT max(length(repeat('x', {width} + value % 2))) FROM generate_series(1, 1000)")
        };
        let (small, wide) = (of(1000), of(10_000));
        let allowance_ends = allowance(true);
        assert_eq!(run(&small, &allowance_ends).await.unwrap(), 1);
        let restart = run(&wide, &allowance(true)).await.unwrap_err().to_string();
        assert!(restart.contains("rows"), "{restart}");
        let full = run(&wide, &allowance(false)).await.unwrap_err();
        assert!(matches!(full.find_root(), DataFusionError::ResourcesExhausted(_)), "{full}");
        allowance_ends.cancel();
        assert!(run(&small, &allowance_ends).await.is_err());
        assert_eq!(allowance_ends.pool().reserved(), 0);
    }
}
