//! The allocator of the process, asked to give freed memory back to the system.
//!
//! jemalloc purges what was freed after a delay (`.cargo/config.toml`), in a thread of its own that wakes ten times a
//! second. Ten hostile queries a second fill hundreds of megabytes beside that.
//!
//! Invariant: the settings of the allocator are the same before and after.

use tikv_jemalloc_ctl::{Access, AsName, Result, arenas};

/// Gives all freed memory back. Nothing happens in a process with another allocator.
pub(crate) fn give_back() {
    if let Err(error) = purge() {
        tracing::debug!(%error, "jemalloc gives no memory back");
    }
}

/// A delay of 0 ms for freed pages purges those of an arena at once.
fn purge() -> Result<()> {
    let mut delay = b"arena.0.dirty_decay_ms\0".name().mib::<[usize; 3]>()?;
    for arena in 0..arenas::narenas::read()? {
        delay[1] = arena as usize;
        // An arena that no thread has used yet has no delay to read; that of large blocks has the delay 0.
        let usual: isize = delay.read().unwrap_or(0);
        if usual > 0 {
            delay.write(0_isize)?;
            delay.write(usual)?;
        }
    }
    Ok(())
}
