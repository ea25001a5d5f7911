//! Prepared statements: texts and the values that are bound to them, under handles.
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
use crate::recent::{Recent, RecentLimits};
use crate::{Error, Result};

/// The statements of one caller, with their values.
const LIMITS: RecentLimits = RecentLimits { count: 4_000, bytes: 64 << 20, within: Duration::from_secs(60 * 60) };

/// The name of a prepared statement.
pub(super) type StatementHandle = [u8; 16];

/// A prepared statement.
#[derive(Debug, Clone)]
pub(super) struct FlightStatement {
    pub(super) sql: Arc<str>,
    /// The number of its placeholders.
    pub(super) placeholders: usize,
    /// The values that are bound, one row for each run.
    pub(super) bound: Option<Arc<RecordBatch>>,
}

impl FlightStatement {
    fn bytes(&self) -> usize {
        let bound = self.bound.as_ref().map_or(0, |bound| bound.get_array_memory_size());
        self.sql.len() + bound
    }
}

type Callers = HashMap<CallerName, Recent<StatementHandle, FlightStatement>>;

/// The prepared statements of all callers.
#[derive(Default)]
pub(super) struct FlightStatements(Mutex<Callers>);

impl FlightStatements {
    /// Keeps a statement.
    ///
    /// Errors: [`Error::ReadLongRequest`].
    pub(super) fn keep(&self, caller: CallerName, query: FlightStatement) -> Result<StatementHandle> {
        let handle = *Uuid::new_v4().as_bytes();
        keep(&mut self.0.lock(), caller, handle, query)?;
        Ok(handle)
    }

    /// A caller's statement.
    ///
    /// Errors: [`Error::FindStatementHandle`].
    pub(super) fn get(&self, caller: CallerName, handle: &[u8]) -> Result<FlightStatement> {
        find(&mut self.0.lock(), caller, handle).map(|(_, query)| query.clone())
    }

    /// Binds values in the place of those that were bound.
    ///
    /// Errors: [`Error::FindStatementHandle`], [`Error::ReadLongRequest`].
    pub(super) fn bind(&self, caller: CallerName, handle: &[u8], bound: Option<RecordBatch>) -> Result<()> {
        let mut callers = self.0.lock();
        let (handle, query) = find(&mut callers, caller, handle)?;
        let query = FlightStatement { bound: bound.map(Arc::new), ..query.clone() };
        keep(&mut callers, caller, handle, query)
    }

    /// Ends a statement. One that is not known has ended already.
    pub(super) fn close(&self, caller: CallerName, handle: &[u8]) {
        let mut callers = self.0.lock();
        if let (Some(own), Ok(handle)) = (callers.get_mut(&caller), StatementHandle::try_from(handle)) {
            own.remove(&handle);
        }
    }
}

fn keep(callers: &mut Callers, caller: CallerName, handle: StatementHandle, query: FlightStatement) -> Result<()> {
    let own = callers.entry(caller).or_insert_with(|| Recent::new(LIMITS));
    let bytes = query.bytes();
    own.keep(handle, query, bytes, Instant::now()).map_err(|_| Error::ReadLongRequest {
        reason: format!(
            "the statement takes more than {} MiB with its values; bind fewer rows at once",
            LIMITS.bytes >> 20
        ),
    })
}

fn find<'a>(
    callers: &'a mut Callers,
    caller: CallerName,
    handle: &[u8],
) -> Result<(StatementHandle, &'a mut FlightStatement)> {
    let handle = StatementHandle::try_from(handle).map_err(|_| Error::FindStatementHandle)?;
    let found = callers.get_mut(&caller).and_then(|own| own.use_now(&handle, Instant::now()));
    found.map(|query| (handle, query)).ok_or(Error::FindStatementHandle)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::access::{Access, AccessToken};
    use crate::flight_sql::callers::caller;

    fn query(sql: &str) -> FlightStatement {
        FlightStatement { sql: sql.into(), placeholders: 0, bound: None }
    }

    #[test]
    fn a_handle_is_its_callers_alone() {
        let token = |text| Some(AccessToken::new(text));
        let access = Access { query: token("q"), admin: token("a"), ..Access::default() };
        let [one, other] = ["q", "a"].map(|token| caller(&access, Some(token)).unwrap().name);
        let prepared = FlightStatements::default();
        let handle = prepared.keep(one, query("SELECT 1")).unwrap();
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
        let long = "x".repeat(LIMITS.bytes / 4 - 300);
        let mut handles: Vec<StatementHandle> = (0..4).map(|_| prepared.keep(caller, query(&long)).unwrap()).collect();
        prepared.get(caller, &handles[0]).unwrap();
        handles.push(prepared.keep(caller, query("SELECT 1")).unwrap());
        let known: Vec<bool> = handles.iter().map(|handle| prepared.get(caller, handle).is_ok()).collect();
        assert_eq!(known, [true, false, true, true, true]);

        let first = prepared.keep(caller, query("SELECT 2")).unwrap();
        for _ in 0..LIMITS.count {
            prepared.keep(caller, query("SELECT 3")).unwrap();
        }
        assert!(prepared.get(caller, &first).is_err());
        assert!(prepared.0.lock()[&caller].len() <= LIMITS.count);
    }

    #[test]
    fn values_count_and_what_is_larger_than_all_is_refused() {
        let caller = caller(&Access::default(), None).unwrap().name;
        let prepared = FlightStatements::default();
        let values = |rows: usize| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
            Some(RecordBatch::try_from_iter([("$1", column)]).unwrap())
        };
        let first = prepared.keep(caller, query("SELECT 1")).unwrap();
        for _ in 0..20 {
            let handle = prepared.keep(caller, query("SELECT $1")).unwrap();
            prepared.bind(caller, &handle, values(1 << 20)).unwrap();
        }
        assert!(prepared.get(caller, &first).is_err(), "values are not counted");
        assert!(prepared.0.lock()[&caller].bytes() <= LIMITS.bytes);
        let handle = prepared.keep(caller, query("SELECT $1")).unwrap();
        let refused = prepared.bind(caller, &handle, values(9 << 20)).unwrap_err();
        assert!(refused.to_string().contains("more than 64 MiB"), "{refused}");
    }
}
