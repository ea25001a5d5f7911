//! The reasons for which tables are not seen, so that the log has each reason once and not at every poll.
//!
//! Invariant: a table that was seen again is said again when it fails again.

use std::collections::HashMap;
use std::hash::Hash;

/// The reason that was said last of each table that is not seen now.
#[derive(Debug)]
pub(super) struct Reasons<Name>(HashMap<Name, String>);

impl<Name: Hash + Eq + Clone> Reasons<Name> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// True if `reason` is to be said of `table`.
    pub(super) fn is_new(&mut self, table: &Name, reason: String) -> bool {
        if self.0.get(table) == Some(&reason) {
            return false;
        }
        self.0.insert(table.clone(), reason);
        true
    }

    /// Records that `table` is seen.
    pub(super) fn end(&mut self, table: &Name) {
        self.0.remove(table);
    }

    /// Forgets the tables of definitions that do not exist any more.
    pub(super) fn retain(&mut self, exists: impl Fn(&Name) -> bool) {
        self.0.retain(|table, _| exists(table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_while_it_lasts() {
        let mut reasons = Reasons::new();
        let mut says = |table: &'static str, reason: &str| reasons.is_new(&table, reason.to_owned());
        assert!(says("a", "columns differ"));
        assert!(!says("a", "columns differ"));
        assert!(says("b", "columns differ"), "another table");
        assert!(says("a", "an entry is odd"), "another reason");
        assert!(!says("a", "an entry is odd"));
        reasons.end(&"a");
        assert!(reasons.is_new(&"a", "an entry is odd".to_owned()), "it was seen between");
        reasons.retain(|table| *table != "a");
        assert!(reasons.is_new(&"a", "an entry is odd".to_owned()), "it was defined anew");
        assert!(!reasons.is_new(&"b", "columns differ".to_owned()));
    }
}
