//! Sessions: options that a client sets once for all of its calls, found by a cookie.
//!
//! Invariant: a session is its caller's alone, and sessions are bounded: the least recently used one goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::callers::CallerName;
use super::messages::{OptionValue, SessionOptionFault, SessionOptionValue};
use crate::names;
use crate::options::Options;

/// The cookie that names a session; the protocol suggests this name.
pub(super) const COOKIE: &str = "arrow_flight_session_id";

/// The most sessions of one caller.
const SESSIONS: usize = 10_000;

/// How long a session is kept after its last call.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// The prefix of our options.
const OURS: &str = "thalweg.";

/// The sessions of all callers.
#[derive(Default)]
pub(super) struct FlightSessions(Mutex<HashMap<String, FlightSession>>);

struct FlightSession {
    caller: CallerName,
    /// Options and their values, under the names of the protocol.
    options: BTreeMap<String, String>,
    used: Instant,
}

impl FlightSessions {
    /// The options of the caller's session `id`, and notes that the session is used; `None` if there is none.
    pub(super) fn options(&self, caller: CallerName, id: &str) -> Option<BTreeMap<String, String>> {
        let mut sessions = self.0.lock();
        let session = sessions.get_mut(id).filter(|session| session.caller == caller)?;
        session.used = Instant::now();
        Some(session.options.clone())
    }

    /// Sets options of the session `id`, or of a new one. Returns the session, and the faults of options that are not
    /// set.
    pub(super) fn set(
        &self,
        caller: CallerName,
        id: Option<&str>,
        given: HashMap<String, SessionOptionValue>,
    ) -> (String, BTreeMap<String, SessionOptionFault>) {
        let mut sessions = self.0.lock();
        let now = Instant::now();
        let known = id.filter(|id| sessions.get(*id).is_some_and(|session| session.caller == caller));
        let id = known.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        if !sessions.contains_key(&id) {
            make_room(&mut sessions, caller, now);
        }
        let session =
            sessions.entry(id.clone()).or_insert_with(|| FlightSession { caller, options: BTreeMap::new(), used: now });
        session.used = now;
        let mut faults = BTreeMap::new();
        for (name, value) in given {
            match checked(&name, value.option_value) {
                Ok(Some(value)) => {
                    session.options.insert(name, value);
                }
                Ok(None) => {
                    session.options.remove(&name);
                }
                Err(fault) => {
                    faults.insert(name, fault);
                }
            }
        }
        (id, faults)
    }

    /// Ends a session. False if there is none.
    pub(super) fn close(&self, caller: CallerName, id: &str) -> bool {
        let mut sessions = self.0.lock();
        let own = sessions.get(id).is_some_and(|session| session.caller == caller);
        own && sessions.remove(id).is_some()
    }
}

/// Drops sessions that nobody uses, and one of the caller's if it has too many.
fn make_room(sessions: &mut HashMap<String, FlightSession>, caller: CallerName, now: Instant) {
    sessions.retain(|_, session| now.duration_since(session.used) < KEPT);
    let own = sessions.iter().filter(|(_, session)| session.caller == caller);
    let (count, oldest) = own.fold((0, None::<(&String, Instant)>), |(count, oldest), (id, session)| {
        let older = oldest.filter(|(_, used)| *used <= session.used);
        (count + 1, older.or(Some((id, session.used))))
    });
    if count >= SESSIONS
        && let Some(id) = oldest.map(|(id, _)| id.clone())
    {
        sessions.remove(&id);
    }
}

/// The value of an option as text; `None` unsets the option.
fn checked(name: &str, value: Option<OptionValue>) -> Result<Option<String>, SessionOptionFault> {
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
