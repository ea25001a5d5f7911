//! What to do about memory: a pure decision over how much is held and what could go.
//!
//! Invariant: nothing that is not archived is ever given up; when nothing can go, reading pauses.

use std::time::Duration;

/// Above this share of the budget, memory is made free; above the whole, reading pauses; below it, reading resumes.
const RELIEF: usize = 80;
/// The batch layer is asked again no sooner than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the stream stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) used: usize,
    pub(crate) budget: usize,
    pub(crate) paused: bool,
    /// Rows are in memory that no epoch has taken to the archive yet.
    pub(crate) unarchived: bool,
    /// An epoch is on its way already.
    pub(crate) on_its_way: bool,
    /// How long ago the batch layer was asked for an early run.
    pub(crate) asked_ago: Option<Duration>,
}

/// What to do, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Relief {
    /// Let go of what only the grace time holds.
    pub(crate) end_grace: bool,
    /// Cut the epoch now, as a mark, so that its rows and states can go.
    pub(crate) cut_epoch: bool,
    /// Ask for an early batch run, after which states can go.
    pub(crate) ask_batch: bool,
    /// `Some(true)`: pause; `Some(false)`: resume.
    pub(crate) pause: Option<bool>,
}

pub(crate) fn relieve(load: Load) -> Relief {
    let threshold = load.budget / 100 * RELIEF;
    if load.used <= threshold {
        return Relief {
            pause: load.paused.then_some(false),
            ..Relief::default()
        };
    }
    let over = load.used > load.budget;
    Relief {
        end_grace: true,
        cut_epoch: (over || load.paused) && load.unarchived && !load.on_its_way,
        ask_batch: load.asked_ago.is_none_or(|ago| ago >= PATIENCE),
        pause: (over && !load.paused).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Load = Load {
        used: 0,
        budget: 1000,
        paused: false,
        unarchived: true,
        on_its_way: false,
        asked_ago: None,
    };

    #[test]
    fn relief_grows_with_the_load() {
        let check = |load: Load, grace, cut, ask, pause| {
            let expect = Relief {
                end_grace: grace,
                cut_epoch: cut,
                ask_batch: ask,
                pause,
            };
            assert_eq!(relieve(load), expect, "{load:?}");
        };
        let used = |used| Load { used, ..CALM };
        let paused = |load| Load {
            paused: true,
            ..load
        };
        let asked = |load, seconds| Load {
            asked_ago: Some(Duration::from_secs(seconds)),
            ..load
        };
        check(used(800), false, false, false, None);
        check(used(801), true, false, true, None);
        check(used(1000), true, false, true, None);
        check(used(1001), true, true, true, Some(true));
        check(asked(used(1001), 4), true, true, false, Some(true));
        check(asked(used(1001), 5), true, true, true, Some(true));
        check(paused(used(1001)), true, true, true, None);
        check(paused(used(900)), true, true, true, None);
        check(paused(used(800)), false, false, false, Some(false));
        let on_its_way = Load {
            on_its_way: true,
            ..used(1001)
        };
        check(on_its_way, true, false, true, Some(true));
        let archived = Load {
            unarchived: false,
            ..used(1001)
        };
        check(archived, true, false, true, Some(true));
    }
}
