//! Small files that are replaced as a whole, and blocking work.
//!
//! Invariant: a file has either its old or its new content, whenever the process or the machine stops.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file's content. Blocks.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(contents)?;
    file.sync_data()?;
    std::fs::rename(&partial, path)
}

/// Runs blocking work on a thread for such work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and so is this task.
            Err(_) => std::future::pending().await,
        },
    }
}
