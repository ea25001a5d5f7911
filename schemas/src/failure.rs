//! Why a view cannot go on: the step that failed, the messages, the expression, the reason, and advice.
//!
//! Invariant: a failure is a value of one view. Nothing but the view itself depends on it.

use serde::{Deserialize, Serialize};

use crate::algebra::Culprit;
use crate::{Error, Fault, Frontier, Offset, Partition};

/// Why a view cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewFailure {
    pub step: FailedStep,
    pub fault: Fault,
    /// The engine's own sentence.
    pub reason: String,
    /// The expression of the view that failed, if one alone does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The failure is in the messages of `[from, to)`. Empty if the messages are not the cause.
    pub from: Frontier,
    pub to: Frontier,
    /// When the view failed first, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedStep {
    /// States of new messages.
    Update,
    /// The speed layer's states of archived messages.
    Rebuild,
    /// Fewer segments of several.
    Merge,
    /// The speed layer's memory budget did not suffice for the view's segments.
    Memory,
    /// The batch layer's states.
    Run,
    /// A step of a newer version.
    #[serde(other)]
    Unknown,
}

impl ViewFailure {
    /// The failure of `step` with `error` over the messages of `[from, to)`.
    pub fn new(step: FailedStep, error: &Error, (from, to): (&Frontier, &Frontier), since_ms: i64) -> Self {
        Self::told(step, (error.fault(), error.reason()), (from, to), since_ms)
    }

    /// As [`ViewFailure::new`], with the fault and the reason of another crate's error.
    pub fn told(
        step: FailedStep,
        (fault, reason): (Fault, String),
        (from, to): (&Frontier, &Frontier),
        since_ms: i64,
    ) -> Self {
        let to = to.advanced_since(from);
        Self { step, fault, reason, expression: None, from: from.within(to.partitions()), to, since_ms }
    }

    /// The failure of `step` over the messages that were found.
    pub fn located(step: FailedStep, culprit: Culprit, since_ms: i64) -> Self {
        let failure = Self::new(step, &culprit.error, (&culprit.from, &culprit.to), since_ms);
        Self { expression: culprit.expression, ..failure }
    }

    /// The one message that is the cause, if the cause is one message.
    pub fn message(&self) -> Option<(Partition, Offset)> {
        let advanced = self.to.advanced_since(&self.from);
        let mut advanced = advanced.iter();
        match (advanced.next(), advanced.next()) {
            (Some((partition, to)), None) if self.from.get(partition).0 + 1 == to.0 => {
                Some((partition, self.from.get(partition)))
            }
            _ => None,
        }
    }

    /// True if the view goes on by itself once the cause has passed.
    pub fn may_pass(&self) -> bool {
        self.fault == Fault::Transient
    }

    /// What happened, with the place, without advice and without a full stop.
    pub fn sentence(&self) -> String {
        let step = match self.step {
            FailedStep::Update => "updating it failed",
            FailedStep::Rebuild => "rebuilding it failed",
            FailedStep::Merge => "merging its states failed",
            FailedStep::Memory => "its segments were dropped",
            FailedStep::Run => "computing its batch states failed",
            FailedStep::Unknown => "it failed",
        };
        let place = match self.message() {
            Some((partition, offset)) => format!(" at offset {offset} of partition {partition}"),
            None if self.step == FailedStep::Memory || self.to.advanced_since(&self.from).is_empty() => String::new(),
            None => format!(" between {} and {}", self.from, self.to),
        };
        let expression = self.expression.as_ref().map(|text| format!(" in {text}")).unwrap_or_default();
        format!("{step}{place}{expression}: {}", self.reason)
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match (self.step, self.fault) {
            (FailedStep::Memory, _) => {
                "It is rebuilt once its batch states have advanced; if they do not, see its last run, or raise \
                 memory_budget"
            }
            (_, Fault::Transient) => "It is tried again by itself",
            (_, Fault::User) => {
                "Replace the view by one that takes such messages (CREATE OR REPLACE MATERIALIZED VIEW, for example \
                 with nullif, TRY_CAST or a WHERE), or drop it; its stream and all other views go on"
            }
            (_, Fault::Engine | Fault::Bug) => {
                "This is an error of the engine: please report it, and write the view in another way (CREATE OR \
                 REPLACE MATERIALIZED VIEW), or drop it; its stream and all other views go on"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(step: FailedStep, from: &[(i32, i64)], to: &[(i32, i64)]) -> ViewFailure {
        let at = |pairs: &[(i32, i64)]| pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect();
        let (from, to) = (at(from), at(to));
        let reason = "Divide by zero error".to_owned();
        ViewFailure { step, fault: Fault::User, reason, expression: None, from, to, since_ms: 0 }
    }

    #[test]
    fn sentences_name_the_place() {
        let check = |failure: ViewFailure, expect: &str| assert_eq!(failure.sentence(), expect);
        let one = failure(FailedStep::Update, &[(0, 9), (2, 5)], &[(0, 9), (2, 6)]);
        check(one.clone(), "updating it failed at offset 5 of partition 2: Divide by zero error");
        let expression = Some("sum(s.a / s.b)".to_owned());
        check(
            ViewFailure { expression, ..one },
            "updating it failed at offset 5 of partition 2 in sum(s.a / s.b): Divide by zero error",
        );
        check(
            failure(FailedStep::Run, &[(0, 5)], &[(0, 9)]),
            "computing its batch states failed between {0:5} and {0:9}: Divide by zero error",
        );
        check(failure(FailedStep::Rebuild, &[], &[]), "rebuilding it failed: Divide by zero error");
        check(failure(FailedStep::Memory, &[(0, 5)], &[(0, 9)]), "its segments were dropped: Divide by zero error");
    }

    #[test]
    fn steps_of_a_newer_version_are_read() {
        let text = serde_json::to_string(&failure(FailedStep::Merge, &[], &[])).unwrap();
        assert!(text.contains("\"merge\""), "{text}");
        let read: ViewFailure = serde_json::from_str(&text.replace("merge", "think")).unwrap();
        assert_eq!(read.step, FailedStep::Unknown);
    }
}
