//! Decides the work of a run from the published and the archived positions.
//!
//! Invariant: [`decide`] is a pure function, and no decision moves a view's cut back.

use thalweg_schemas::Frontier;
use thalweg_schemas::api::runs::RunMode;

/// The published state of a view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishedView<'a> {
    pub(crate) cut: &'a Frontier,
    pub(crate) files: usize,
}

/// The work of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// No work: the answer would not change.
    Nothing,
    /// Compute everything below the mark. The new files replace all others.
    Full,
    /// Compute the rows above the cut. The new files are added to the existing ones.
    Append,
    /// Compute the rows above the cut and merge them with the existing files. The new files replace all others.
    AppendAndCompact,
}

/// Decides the work of a run. `mark` is the newest mark of the pinned master version, origins included. A view with
/// `compact_files` files or more is compacted.
pub(crate) fn decide(
    published: Option<PublishedView<'_>>,
    mark: &Frontier,
    mode: RunMode,
    compact_files: usize,
) -> RunKind {
    // A stream without recorded partitions has no cut, because its offsets may start anywhere.
    if mark.is_empty() {
        return RunKind::Nothing;
    }
    let Some(PublishedView { cut, files }) = published else {
        return RunKind::Full;
    };
    // Another process has published from a newer version than the one pinned here.
    if !mark.covers(cut) {
        return RunKind::Nothing;
    }
    let advanced = !mark.advanced_since(cut).is_empty();
    match mode {
        RunMode::Full => RunKind::Full,
        RunMode::Incremental if !advanced => RunKind::Nothing,
        RunMode::Incremental if files >= compact_files => RunKind::AppendAndCompact,
        RunMode::Incremental => RunKind::Append,
    }
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;

    use super::*;

    #[test]
    fn every_case() {
        use RunMode::{Full as F, Incremental as I};
        type Case<'a> = (Option<(&'a [(i32, i64)], usize)>, &'a [(i32, i64)], RunMode, RunKind);
        let cases: &[Case<'_>] = &[
            // Nothing is published: compute everything, even if there are no rows.
            (None, &[(0, 0)], I, RunKind::Full),
            (None, &[(0, 9), (1, 5)], I, RunKind::Full),
            (None, &[(0, 9)], F, RunKind::Full),
            // No partition is known.
            (None, &[], I, RunKind::Nothing),
            (None, &[], F, RunKind::Nothing),
            // Nothing new.
            (Some((&[(0, 9)], 1)), &[(0, 9)], I, RunKind::Nothing),
            (Some((&[(0, 9)], 9)), &[(0, 9)], I, RunKind::Nothing),
            (Some((&[(0, 9)], 1)), &[(0, 9)], F, RunKind::Full),
            // A new but empty partition changes nothing.
            (Some((&[(0, 9)], 1)), &[(0, 9), (1, 0)], I, RunKind::Nothing),
            // There are new rows.
            (Some((&[(0, 9)], 0)), &[(0, 10)], I, RunKind::Append),
            (Some((&[(0, 9)], 2)), &[(0, 9), (1, 1)], I, RunKind::Append),
            (Some((&[(0, 9)], 3)), &[(0, 10)], I, RunKind::AppendAndCompact),
            (Some((&[(0, 9)], 3)), &[(0, 10)], F, RunKind::Full),
            // The pinned version is older than the published one.
            (Some((&[(0, 9)], 1)), &[(0, 8)], I, RunKind::Nothing),
            (Some((&[(0, 9)], 1)), &[(0, 8)], F, RunKind::Nothing),
            (Some((&[(0, 9), (1, 2)], 1)), &[(0, 10), (1, 1)], I, RunKind::Nothing),
        ];
        for (published, mark, mode, expect) in cases {
            let cut = published.map(|(cut, files)| (at(cut), files));
            let standing = cut.as_ref().map(|(cut, files)| PublishedView { cut, files: *files });
            let got = decide(standing, &at(mark), *mode, 3);
            assert_eq!(got, *expect, "{published:?} {mark:?} {mode:?}");
        }
    }
}
