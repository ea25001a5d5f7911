//! What a run has to do, decided from what is published and what is archived.
//!
//! Invariant: [`decide`] is a pure function, and whatever it says moves a view's cut up or leaves it; never back.

use thalweg_schemas::Frontier;
use thalweg_schemas::api::runs::RunMode;

/// What is published of a view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishedView<'a> {
    pub(crate) cut: &'a Frontier,
    pub(crate) files: usize,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// There is nothing that would change the answer.
    Nothing,
    /// Compute everything below the mark; the files take the place of all others.
    Full,
    /// Compute the rows above the cut; the files join those that there are.
    Append,
    /// As `Append`, merged with the files that there are into files that take their place.
    AppendAndCompact,
}

/// Decides. `mark` is the newest mark of the pinned master version, origins included; `compact_files` is how many files
/// a view may have before they are merged.
pub(crate) fn decide(
    published: Option<PublishedView<'_>>,
    mark: &Frontier,
    mode: RunMode,
    compact_files: usize,
) -> RunKind {
    // A stream whose partitions nobody has recorded yet has no cut: its offsets may begin anywhere.
    if mark.is_empty() {
        return RunKind::Nothing;
    }
    let Some(PublishedView { cut, files }) = published else {
        return RunKind::Full;
    };
    // Another process has read a newer version than this one has pinned.
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
            // Nothing published: everything, even if that is no row.
            (None, &[(0, 0)], I, RunKind::Full),
            (None, &[(0, 9), (1, 5)], I, RunKind::Full),
            (None, &[(0, 9)], F, RunKind::Full),
            // No partition known yet.
            (None, &[], I, RunKind::Nothing),
            (None, &[], F, RunKind::Nothing),
            // Nothing new.
            (Some((&[(0, 9)], 1)), &[(0, 9)], I, RunKind::Nothing),
            (Some((&[(0, 9)], 9)), &[(0, 9)], I, RunKind::Nothing),
            (Some((&[(0, 9)], 1)), &[(0, 9)], F, RunKind::Full),
            // A partition that is new but empty changes nothing.
            (Some((&[(0, 9)], 1)), &[(0, 9), (1, 0)], I, RunKind::Nothing),
            // Something new.
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
