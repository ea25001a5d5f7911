//! Sessions: options that a client sets once for all of its calls, found by a cookie.
//!
//! Invariant: a session is its caller's alone. Sessions are bounded in number and in bytes: a caller that opens more
//! loses the one that it used least recently.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::callers::CallerName;
use super::messages::{OptionValue, SessionOptionFault, SessionOptionValue};
use crate::options::Options;
use crate::recent::{Recent, RecentLimits};
use crate::{Error, Result, names};

/// The cookie that names a session; the protocol suggests this name.
pub(super) const COOKIE: &str = "arrow_flight_session_id";

/// The sessions of one caller.
const LIMITS: RecentLimits = RecentLimits { count: 10_000, bytes: 16 << 20, within: Duration::from_secs(60 * 60) };

/// Bytes of the options of one session: as many as the headers of a call, which set the same options.
const OPTION_BYTES: usize = 64 << 10;

/// The prefix of our options.
const OURS: &str = "thalweg.";

/// Options and their values, under the names of the protocol.
pub(super) type SessionOptions = BTreeMap<String, String>;

/// The sessions of all callers.
#[derive(Default)]
pub(super) struct FlightSessions(Mutex<HashMap<CallerName, Recent<String, SessionOptions>>>);

impl FlightSessions {
    /// The options of the caller's session `id`, and notes that the session is used; `None` if there is none.
    pub(super) fn options(&self, caller: CallerName, id: &str) -> Option<SessionOptions> {
        let mut sessions = self.0.lock();
        sessions.get_mut(&caller)?.use_now(id, Instant::now()).map(|options| options.clone())
    }

    /// Sets options of the session `id`, or of a new one. Returns the session, and the faults of options that are not
    /// set.
    ///
    /// Errors: [`Error::ReadLongRequest`]. The session is as it was then.
    pub(super) fn set(
        &self,
        caller: CallerName,
        id: Option<&str>,
        given: HashMap<String, SessionOptionValue>,
    ) -> Result<(String, BTreeMap<String, SessionOptionFault>)> {
        let (mut sessions, now) = (self.0.lock(), Instant::now());
        let own = sessions.entry(caller).or_insert_with(|| Recent::new(LIMITS));
        let known = id.and_then(|id| Some((id.to_owned(), own.use_now(id, now)?.clone())));
        let (id, mut options) = known.unwrap_or_else(|| (Uuid::new_v4().to_string(), SessionOptions::new()));
        let mut faults = BTreeMap::new();
        for (name, value) in given {
            match checked(&name, value.option_value) {
                Ok(Some(value)) => drop(options.insert(name, value)),
                Ok(None) => drop(options.remove(&name)),
                Err(fault) => drop(faults.insert(name, fault)),
            }
        }
        let bytes = options.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > OPTION_BYTES || own.keep(id.clone(), options, bytes, now).is_err() {
            let reason = format!(
                "the options of a session are longer than {} KiB; set thalweg.min_frontier for the call that needs it",
                OPTION_BYTES >> 10
            );
            return Err(Error::ReadLongRequest { reason });
        }
        Ok((id, faults))
    }

    /// Ends a session. False if there is none.
    pub(super) fn close(&self, caller: CallerName, id: &str) -> bool {
        self.0.lock().get_mut(&caller).is_some_and(|own| own.remove(id).is_some())
    }
}

/// The value of an option as text; `None` unsets the option.
fn checked(name: &str, value: Option<OptionValue>) -> std::result::Result<Option<String>, SessionOptionFault> {
    let only = match name {
        "catalog" => Some(names::CATALOG),
        "schema" => Some(names::PUBLIC),
        _ => None,
    };
    let ours = name.strip_prefix(OURS);
    if only.is_none() && ours.is_none() {
        return Err(SessionOptionFault::InvalidName);
    }
    let text = match value {
        None => return Ok(None),
        Some(OptionValue::Text(text)) if text.is_empty() => return Ok(None),
        Some(OptionValue::Text(text)) => text,
        Some(OptionValue::Bool(allows)) => if allows { "allow" } else { "refuse" }.to_owned(),
        Some(_) => return Err(SessionOptionFault::InvalidValue),
    };
    match (only, ours) {
        (Some(only), _) if only == text => Ok(Some(text)),
        (_, Some(ours)) if Options::default().set(ours, &text).is_ok() => Ok(Some(text)),
        _ => Err(SessionOptionFault::InvalidValue),
    }
}

/// Sets the options of a session in `options`.
pub(super) fn apply(session: &BTreeMap<String, String>, options: &mut Options) {
    for (name, value) in session.iter().filter_map(|(name, value)| Some((name.strip_prefix(OURS)?, value))) {
        // Values are checked when they are set.
        let _ = options.set(name, value);
    }
}

/// The session that a `cookie` header names.
pub(super) fn of_cookies(header: &str) -> Option<&str> {
    header.split(';').find_map(|cookie| match cookie.trim().split_once('=') {
        Some((COOKIE, id)) => Some(id.trim_matches('"')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::flight_sql::callers::caller;

    fn value(text: &str) -> SessionOptionValue {
        SessionOptionValue { option_value: Some(OptionValue::Text(text.to_owned())) }
    }

    fn frontier(partitions: usize) -> HashMap<String, SessionOptionValue> {
        let offsets = (0..partitions).map(|partition| format!("\"{partition}\":1"));
        let text = format!("{{\"s\":{{{}}}}}", offsets.collect::<Vec<_>>().join(","));
        HashMap::from([("thalweg.min_frontier".to_owned(), value(&text))])
    }

    #[test]
    fn options_are_bounded_in_bytes() {
        let caller = caller(&Access::default(), None).unwrap().name;
        let sessions = FlightSessions::default();
        let (id, faults) = sessions.set(caller, None, frontier(10)).unwrap();
        assert!(faults.is_empty());
        let before = sessions.options(caller, &id).unwrap();
        let refused = sessions.set(caller, Some(&id), frontier(100_000)).unwrap_err();
        assert!(refused.to_string().contains("longer than 64 KiB"), "{refused}");
        assert_eq!(sessions.options(caller, &id).unwrap(), before);
        // All sessions together are bounded as well, and the oldest ones go first.
        let many: Vec<String> = (0..2_000).map(|_| sessions.set(caller, None, frontier(3_000)).unwrap().0).collect();
        assert!(sessions.0.lock()[&caller].bytes() <= LIMITS.bytes);
        assert!(sessions.options(caller, &id).is_none() && sessions.options(caller, &many[0]).is_none());
        assert!(sessions.options(caller, &many[1_999]).is_some());
    }
}
