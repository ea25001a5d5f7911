//! The name of this machine: what others call it, and what a lease's holder is shown as.
//!
//! Invariant: no decision depends on it.

/// What the kernel or, where there is no `/proc`, the environment calls this machine.
pub fn name() -> Option<String> {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = known.or_else(|| std::env::var("HOSTNAME").ok());
    known.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}
