//! Prepared statements: texts with what is known of them, and the values that are bound, under handles.
//!
//! Invariant: a handle is its caller's alone. Handles are bounded in number and in bytes: a caller that prepares more
//! loses the one that it used least recently.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use parking_lot::Mutex;
use uuid::Uuid;

use super::callers::CallerName;
use crate::engine::Description;
use crate::{Error, Result};

/// The most statements of one caller.
const STATEMENTS: usize = 4_000;

/// Bytes of texts and values of one caller.
const BYTES: usize = 64 << 20;

/// How long a statement is kept after it was last used.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// The name of a prepared statement.
pub(super) type StatementHandle = [u8; 16];

/// A prepared statement.
#[derive(Debug, Clone)]
pub(super) struct FlightStatement {
    pub(super) sql: Arc<str>,
    pub(super) description: Arc<Description>,
    /// The version of the catalog that the description is of.
    pub(super) catalog: u64,
    /// The values that are bound, one row for each run.
    pub(super) bound: Option<Arc<RecordBatch>>,
}

impl FlightStatement {
    fn bytes(&self) -> usize {
        self.sql.len() + self.bound.as_ref().map_or(0, |bound| bound.get_array_memory_size())
    }
}

/// The prepared statements of all callers.
#[derive(Default)]
pub(super) struct FlightStatements(Mutex<HashMap<CallerName, HashMap<StatementHandle, KeptStatement>>>);

struct KeptStatement {
    query: FlightStatement,
    used: Instant,
}

impl FlightStatements {
    /// Keeps a statement.
    pub(super) fn keep(&self, caller: CallerName, query: FlightStatement) -> StatementHandle {
        let (handle, now) = (*Uuid::new_v4().as_bytes(), Instant::now());
        let mut callers = self.0.lock();
        let own = callers.entry(caller).or_default();
        own.retain(|_, kept| now.duration_since(kept.used) < KEPT);
        make_room(own, query.bytes(), None);
        own.insert(handle, KeptStatement { query, used: now });
        handle
    }

    /// A caller's statement.
    ///
    /// Errors: [`Error::FindStatementHandle`].
    pub(super) fn get(&self, caller: CallerName, handle: &[u8]) -> Result<FlightStatement> {
        let mut callers = self.0.lock();
        let kept = find(&mut callers, caller, handle)?;
        kept.used = Instant::now();
        Ok(kept.query.clone())
    }

    /// Binds values in the place of those that were bound.
    ///
    /// Errors: [`Error::FindStatementHandle`].
    pub(super) fn bind(&self, caller: CallerName, handle: &[u8], bound: Option<RecordBatch>) -> Result<()> {
        let mut callers = self.0.lock();
        let kept = find(&mut callers, caller, handle)?;
        kept.query.bound = bound.map(Arc::new);
        kept.used = Instant::now();
        let key = StatementHandle::try_from(handle).ok();
        if let Some(own) = callers.get_mut(&caller) {
            make_room(own, 0, key);
        }
        Ok(())
    }

    /// Describes a statement anew.
    ///
    /// Errors: [`Error::FindStatementHandle`].
    pub(super) fn describe(
        &self,
        caller: CallerName,
        handle: &[u8],
        description: &Arc<Description>,
        catalog: u64,
    ) -> Result<()> {
        let mut callers = self.0.lock();
        let kept = find(&mut callers, caller, handle)?;
        kept.query.description = Arc::clone(description);
        kept.query.catalog = catalog;
        Ok(())
    }

    /// Ends a statement. One that is not known has ended already.
    pub(super) fn close(&self, caller: CallerName, handle: &[u8]) {
        let mut callers = self.0.lock();
        if let (Some(own), Ok(handle)) = (callers.get_mut(&caller), StatementHandle::try_from(handle)) {
            own.remove(&handle);
        }
    }
}

fn find<'a>(
    callers: &'a mut HashMap<CallerName, HashMap<StatementHandle, KeptStatement>>,
    caller: CallerName,
    handle: &[u8],
) -> Result<&'a mut KeptStatement> {
    let handle = StatementHandle::try_from(handle).map_err(|_| Error::FindStatementHandle)?;
    callers.get_mut(&caller).and_then(|own| own.get_mut(&handle)).ok_or(Error::FindStatementHandle)
}

/// Drops statements, those that were used least recently first, until there is room for `more` bytes and one statement.
/// `never` stays.
fn make_room(own: &mut HashMap<StatementHandle, KeptStatement>, more: usize, never: Option<StatementHandle>) {
    let mut bytes = own.values().map(|kept| kept.query.bytes()).sum::<usize>().saturating_add(more);
    while own.len() >= STATEMENTS || bytes > BYTES {
        let others = own.iter().filter(|(handle, _)| Some(**handle) != never);
        let Some(oldest) = others.min_by_key(|(_, kept)| kept.used).map(|(handle, _)| *handle) else { return };
        bytes -= own.remove(&oldest).map_or(0, |kept| kept.query.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, AccessToken};
    use crate::flight_sql::callers::caller;

    fn query(sql: &str) -> FlightStatement {
        FlightStatement {
            sql: sql.into(),
            description: Arc::new(Description { parameters: Vec::new(), columns: None }),
            catalog: 1,
            bound: None,
        }
    }

    #[test]
    fn a_handle_is_its_callers_alone() {
        let token = |text| Some(AccessToken::new(text));
        let access = Access { query: token("q"), admin: token("a"), ..Access::default() };
        let [one, other] = ["q", "a"].map(|token| caller(&access, Some(token)).unwrap().name);
        let prepared = FlightStatements::default();
        let handle = prepared.keep(one, query("SELECT 1"));
        prepared.close(other, &handle);
        assert!(prepared.get(other, &handle).is_err() && prepared.bind(other, &handle, None).is_err());
        assert_eq!(&*prepared.get(one, &handle).unwrap().sql, "SELECT 1");
        for wrong in [&handle[..15], &[0; 16], &[0; 17], b""] {
            assert!(prepared.get(one, wrong).is_err());
        }
        prepared.close(one, &handle);
        assert!(prepared.get(one, &handle).is_err());
    }

    #[test]
    fn the_statement_that_was_used_least_recently_goes_first() {
        let caller = caller(&Access::default(), None).unwrap().name;
        let prepared = FlightStatements::default();
        let long = "x".repeat(BYTES / 4);
        let mut handles: Vec<StatementHandle> = (0..4).map(|_| prepared.keep(caller, query(&long))).collect();
        prepared.get(caller, &handles[0]).unwrap();
        handles.push(prepared.keep(caller, query("SELECT 1")));
        let known: Vec<bool> = handles.iter().map(|handle| prepared.get(caller, handle).is_ok()).collect();
        assert_eq!(known, [true, false, true, true, true]);

        let first = prepared.keep(caller, query("SELECT 2"));
        for _ in 0..STATEMENTS {
            prepared.keep(caller, query("SELECT 3"));
        }
        assert!(prepared.get(caller, &first).is_err());
        assert!(prepared.0.lock()[&caller].len() <= STATEMENTS);
    }
}
