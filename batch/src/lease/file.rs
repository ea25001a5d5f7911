//! The content of a lease file, the holder of a lease, and the state of a lease for another process.
//!
//! Invariant: [`judge`] is a pure function; its caller reads the clock and checks processes.

use serde::{Deserialize, Serialize};
use thalweg_schemas::host;
use uuid::Uuid;

/// Largest expected difference between the clocks of two machines. A larger difference lets a process take the lease
/// of a running holder, which wastes work but never changes an answer.
const SKEW_MS: i64 = 10_000;

/// One file of a lease; the file with the highest number is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseFile {
    pub(super) holder: Holder,
    /// End of the lease without renewal, by the holder's clock in milliseconds since 1970.
    pub(super) until_ms: i64,
    /// True once the holder has released the lease.
    pub(super) released: bool,
}

/// The holder of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Random id of the run.
    pub(super) id: Uuid,
    pub host: String,
    pub pid: u32,
    /// Identifies the kernel and the process namespace of `pid`; empty if unknown.
    pub(super) space: String,
}

impl Holder {
    /// This process, with a new id for one run.
    pub(super) fn new() -> Self {
        let host = host::name().unwrap_or_else(|| "an unnamed host".to_owned());
        Self { id: Uuid::new_v4(), host, pid: std::process::id(), space: space() }
    }

    /// True if this process can see the holder's process namespace and the process is gone. If the kernel gave the
    /// pid to another process, a dead holder looks alive, and its lease ends by time.
    pub(super) fn is_dead(&self) -> bool {
        let here = space();
        !here.is_empty() && here == self.space && !exists(&format!("/proc/{}", self.pid))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

fn space() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// The state of a lease for `me`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// Nobody holds the lease.
    Free,
    Mine,
    /// Another run holds the lease until `until_ms`, by its holder's clock.
    Held {
        holder: Holder,
        until_ms: i64,
    },
    /// Another run held the lease, but its time is over or its process is dead.
    Expired,
}

/// The state of a lease from its newest file. `dead` is [`Holder::is_dead`] of that file's holder.
pub(super) fn judge(newest: Option<&LeaseFile>, me: Uuid, now_ms: i64, dead: bool) -> LeaseState {
    match newest {
        None => LeaseState::Free,
        Some(file) if file.released => LeaseState::Free,
        Some(file) if file.holder.id == me => LeaseState::Mine,
        Some(_) if dead => LeaseState::Expired,
        Some(file) if now_ms > file.until_ms.saturating_add(SKEW_MS) => LeaseState::Expired,
        Some(file) => LeaseState::Held { holder: file.holder.clone(), until_ms: file.until_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lease_has_its_state() {
        let holder = Holder::new();
        let (theirs, other) = (holder.id, Uuid::new_v4());
        let file = |until_ms, released| LeaseFile { holder: holder.clone(), until_ms, released };
        let held = |until_ms| LeaseState::Held { holder: holder.clone(), until_ms };
        let until = 1_000_000;
        let over = until + SKEW_MS + 1;
        for (newest, me, now, dead, expect) in [
            (None, other, 0, false, LeaseState::Free),
            (Some(file(until, true)), other, 0, false, LeaseState::Free),
            (Some(file(until, true)), theirs, 0, false, LeaseState::Free),
            (Some(file(until, false)), theirs, 0, false, LeaseState::Mine),
            // A holder that comes back late keeps its lease if nobody has taken it.
            (Some(file(until, false)), theirs, over, false, LeaseState::Mine),
            (Some(file(until, false)), other, until, false, held(until)),
            (Some(file(until, false)), other, over - 1, false, held(until)),
            (Some(file(until, false)), other, over, false, LeaseState::Expired),
            (Some(file(until, false)), other, until, true, LeaseState::Expired),
            // A lease with an absurd end never expires, and the sum does not overflow.
            (Some(file(i64::MAX, false)), other, over, false, held(i64::MAX)),
        ] {
            let case = format!("{newest:?} {me} {now} {dead}");
            assert_eq!(judge(newest.as_ref(), me, now, dead), expect, "{case}");
        }
    }

    #[test]
    fn only_a_visible_process_can_be_dead() {
        let alive = Holder::new();
        let gone = Holder { pid: u32::MAX, ..alive.clone() };
        let elsewhere = Holder { space: "another kernel".to_owned(), ..gone.clone() };
        assert!(!alive.is_dead());
        assert_eq!(gone.is_dead(), !alive.space.is_empty());
        assert!(!elsewhere.is_dead());
    }
}
