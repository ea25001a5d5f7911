//! What a process is made of, whichever role it has: its parts, in which order they end, and what a failure means.
//!
//! Layers know only `schemas`; here they are wired, one file for each role. Modules are in reading order. Invariant:
//! whatever part fails, either it is started again, or the process ends and says why; no part is missing silently.

mod stopped;

mod supervise;

mod parts;
mod process;

mod audit;
mod calls;
mod streams;

mod batch;
mod serve;
mod speed;
mod up;

pub use self::parts::Platform;
pub use self::stopped::Stopped;

pub(crate) use self::batch::batch;
pub(crate) use self::process::Opened;
pub(crate) use self::serve::serve;
pub(crate) use self::speed::speed;
pub(crate) use self::supervise::supervise;
pub(crate) use self::up::up;
