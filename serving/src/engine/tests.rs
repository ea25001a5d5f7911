//! The engine over a small platform of its own: answers, frontiers, refusals and limits.

mod answers;
mod descriptions;
mod frontiers;
mod limits;
mod parameters;
mod refusals;
mod rollups;
mod system;

use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use super::*;
use crate::fixture::World;

fn engine(world: &World) -> Arc<Engine> {
    Arc::new(Engine::new(world.config(), world.sources.clone()).unwrap())
}

/// Rows as sorted lines, so that answers compare regardless of order.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| l.starts_with('|'))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

async fn rows(engine: &Arc<Engine>, sql: &str) -> Vec<RecordBatch> {
    let answer = engine.run(sql, Options::default()).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    answer.batches.try_collect().await.unwrap()
}

async fn code(engine: &Arc<Engine>, sql: &str) -> &'static str {
    let error = match engine.run(sql, Options::default()).await {
        Err(error) => error,
        Ok(answer) => match answer.batches.try_collect::<Vec<_>>().await {
            Err(error) => error,
            Ok(_) => panic!("{sql} was answered"),
        },
    };
    error.code().as_str()
}
