//! Small files that are replaced as a whole, and work that blocks.
//!
//! Invariant: under its name a file is as it was before or as it is to be, whenever the process or the machine ends.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes the file anew. Blocks.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(contents)?;
    file.sync_data()?;
    std::fs::rename(&partial, path)
}

/// Runs what blocks on a thread that may be blocked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
