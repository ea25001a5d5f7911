//! The name of this machine: its address for other processes, and the name shown for the holder of a lease.
//!
//! Invariant: no decision depends on the name.

/// The machine's name from the kernel, or from the variable `HOSTNAME` where `/proc` does not exist.
pub fn name() -> Option<String> {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = known.or_else(|| std::env::var("HOSTNAME").ok());
    known.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}
