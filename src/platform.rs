//! A process of any role: its parts, the order in which they end, and the effect of a failure.
//!
//! Layers know only `schemas`; they are connected here, in one file for each role. Modules are in reading order.
//! Invariant: a part that fails is started again, or the process ends with the reason; no part is missing silently.

mod stopped;

mod supervise;

mod parts;
mod process;

mod calls;
mod loads;

mod audit;
mod streams;

mod batch;
mod serve;
mod speed;
mod up;

pub use self::parts::{Addresses, Platform};
pub use self::stopped::Stopped;

pub(crate) use self::batch::batch;
pub(crate) use self::process::Opened;
pub(crate) use self::serve::serve;
pub(crate) use self::speed::speed;
pub(crate) use self::supervise::supervise;
pub(crate) use self::up::up;
