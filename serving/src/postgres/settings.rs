//! Settings of a session: those that drivers send, and the options of queries.
//!
//! Invariant: a setting that is accepted is honoured, or does not change any answer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failure::Failure;
use crate::options::Options;

/// Which values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    Any,
    /// One of these, in any case. Only they are true here.
    Only(&'static [&'static str]),
    /// A time; a number alone is milliseconds.
    Time,
    /// None: the server decides.
    Nothing,
}

struct SessionSetting {
    name: &'static str,
    default: &'static str,
    takes: Takes,
    /// True if clients are told of the value at the start and after each change.
    reported: bool,
}

const fn setting(name: &'static str, default: &'static str, takes: Takes, reported: bool) -> SessionSetting {
    SessionSetting { name, default, takes, reported }
}

const ON: &[&str] = &["on", "true", "yes", "1"];
const OFF: &[&str] = &["off", "false", "no", "0"];
const UTC: &[&str] = &["utc", "etc/utc", "gmt", "etc/gmt", "zulu", "z", "0", "+00", "+00:00"];
const UTF8: &[&str] = &["utf8", "utf-8", "unicode"];
const ISO: &[&str] = &["iso", "iso, mdy", "iso, dmy", "iso, ymd", "iso,mdy", "iso,dmy", "iso,ymd"];
const ISOLATION: &[&str] = &["read uncommitted", "read committed", "repeatable read", "serializable"];

/// All settings but those of queries, by name.
const SETTINGS: [SessionSetting; 36] = [
    setting("application_name", "", Takes::Any, true),
    setting("backslash_quote", "safe_encoding", Takes::Any, false),
    setting("bytea_output", "hex", Takes::Only(&["hex"]), false),
    setting("client_encoding", "UTF8", Takes::Only(UTF8), true),
    setting("client_min_messages", "notice", Takes::Any, false),
    setting("DateStyle", "ISO, MDY", Takes::Only(ISO), true),
    setting("default_transaction_isolation", "read committed", Takes::Only(ISOLATION), false),
    setting("default_transaction_read_only", "off", Takes::Any, false),
    setting("escape_string_warning", "on", Takes::Any, false),
    setting("extra_float_digits", "1", Takes::Any, false),
    setting("geqo", "on", Takes::Any, false),
    setting("idle_in_transaction_session_timeout", "0", Takes::Any, false),
    setting("in_hot_standby", "off", Takes::Nothing, true),
    setting("integer_datetimes", "on", Takes::Nothing, true),
    setting("IntervalStyle", "postgres", Takes::Only(&["postgres"]), true),
    setting("is_superuser", "off", Takes::Nothing, true),
    setting("jit", "off", Takes::Any, false),
    setting("lc_messages", "C", Takes::Any, false),
    setting("lc_monetary", "C", Takes::Any, false),
    setting("lc_numeric", "C", Takes::Any, false),
    setting("lc_time", "C", Takes::Any, false),
    setting("lock_timeout", "0", Takes::Any, false),
    setting("max_identifier_length", "63", Takes::Nothing, false),
    setting("row_security", "on", Takes::Any, false),
    setting("search_path", "public", Takes::Any, false),
    setting("server_encoding", "UTF8", Takes::Nothing, true),
    setting("server_version", SERVER_VERSION, Takes::Nothing, true),
    setting("server_version_num", "170000", Takes::Nothing, false),
    setting("session_authorization", "", Takes::Nothing, true),
    setting("standard_conforming_strings", "on", Takes::Only(ON), true),
    setting("statement_timeout", "0", Takes::Time, false),
    setting("synchronize_seqscans", "on", Takes::Any, false),
    setting("TimeZone", "UTC", Takes::Only(UTC), true),
    setting("transaction_isolation", "read committed", Takes::Only(ISOLATION), false),
    setting("transaction_read_only", "off", Takes::Any, false),
    setting("transform_null_equals", "off", Takes::Only(OFF), false),
];

/// The version of PostgreSQL whose protocol and catalog are spoken, and the version of the server.
const SERVER_VERSION: &str = concat!("17.0 (Thalweg ", env!("CARGO_PKG_VERSION"), ")");

/// The longest value of a setting, and of the one that names partitions.
const VALUE_BYTES: usize = 4 << 10;
const FRONTIER_BYTES: usize = 1 << 20;

/// Options of queries, with their values at the start.
const OPTIONS: [(&str, &str); 6] = [
    ("thalweg.certificate", "false"),
    ("thalweg.min_frontier", "{}"),
    ("thalweg.partial", "refuse"),
    ("thalweg.rollups", "default"),
    ("thalweg.source", "merged"),
    ("thalweg.stale", "refuse"),
];

/// The settings of one session.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SessionSettings {
    /// The values that are not the defaults of the server, by lower-case name.
    values: BTreeMap<String, String>,
    /// The values that RESET gives back, which came with the start of the connection.
    initial: BTreeMap<String, String>,
    options: Options,
    timeout: Option<Duration>,
}

impl SessionSettings {
    /// True if the session has a setting of this name.
    pub(super) fn knows(name: &str) -> bool {
        name.to_ascii_lowercase().starts_with("thalweg.") || find(name).is_some()
    }

    /// The options of the session's queries.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// How long a statement may run, if the session says so.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Sets one setting.
    ///
    /// Errors: a failure for a name or a value that is not accepted.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let key = name.to_ascii_lowercase();
        let most = if key == "thalweg.min_frontier" { FRONTIER_BYTES } else { VALUE_BYTES };
        if value.len() > most {
            let bytes = value.len();
            return Err(Failure::new("54000", format!("a value of \"{name}\" has at most {most} bytes, not {bytes}")));
        }
        if let Some(option) = key.strip_prefix("thalweg.") {
            self.options.set(option, value).map_err(|error| Failure::of(&error, "", 0))?;
            self.values.insert(key, value.to_owned());
            return Ok(());
        }
        let setting = find(name).ok_or_else(|| unknown(name))?;
        let wrong = |advice: &str| {
            Failure::new("22023", format!("invalid value for parameter \"{}\": \"{value}\"{advice}", setting.name))
        };
        let value = match setting.takes {
            Takes::Any => value,
            Takes::Only(values) if values.contains(&value.to_ascii_lowercase().as_str()) => canonical(setting, value),
            Takes::Only(values) => return Err(wrong(&format!("; only {} is possible here", values[0].to_uppercase()))),
            Takes::Time => {
                let time = milliseconds(value).ok_or_else(|| wrong("; write milliseconds, or a unit as in '5s'"))?;
                self.timeout = (time > 0).then(|| Duration::from_millis(time));
                value
            }
            Takes::Nothing => {
                return Err(Failure::new("55P02", format!("parameter \"{}\" cannot be changed", setting.name)));
            }
        };
        self.values.insert(key, value.to_owned());
        Ok(())
    }

    /// The bytes that the values take; frontiers are kept as they are written and as they are read.
    pub(super) fn bytes(&self) -> usize {
        let values = self.values.iter().chain(&self.initial);
        size_of::<Self>()
            + values.map(|(name, value)| name.len() + 4 * value.len() + 2 * size_of::<String>()).sum::<usize>()
    }

    /// Gives a setting, or all of them, the value of the start.
    ///
    /// Errors: a failure for an unknown name.
    pub(super) fn reset(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let before = self.clone();
        *self = Self { initial: before.initial.clone(), ..Self::default() };
        let mut kept = before.initial.clone();
        if let Some(name) = name {
            let key = name.to_ascii_lowercase();
            let known = find(name).is_some() || OPTIONS.iter().any(|(option, _)| *option == key);
            if !known {
                *self = before;
                return Err(unknown(name));
            }
            kept = before.values.clone();
            kept.remove(&key);
            kept.extend(before.initial.get(&key).map(|value| (key, value.clone())));
        }
        for (name, value) in kept {
            self.set(&name, &value)?;
        }
        Ok(())
    }

    /// The settings that clients are told of, and whose values differ from those `before`.
    pub(super) fn changes(&self, before: &Self) -> Vec<(String, String)> {
        let changed = self.reported().zip(before.reported()).filter(|(now, then)| now != then);
        changed.map(|((name, value), _)| (name.to_owned(), value.to_owned())).collect()
    }

    fn value(&self, setting: &SessionSetting) -> &str {
        self.values.get(&setting.name.to_ascii_lowercase()).map_or(setting.default, String::as_str)
    }

    /// Keeps the values of now as those of the start.
    pub(super) fn started(&mut self) {
        self.initial = self.values.clone();
    }

    /// The value of a setting.
    ///
    /// Errors: a failure for an unknown name.
    pub(super) fn show(&self, name: &str) -> Result<String, Failure> {
        let key = name.to_ascii_lowercase();
        if let Some((_, default)) = OPTIONS.iter().find(|(option, _)| *option == key) {
            return Ok(self.values.get(&key).map_or(*default, String::as_str).to_owned());
        }
        find(name).map(|setting| self.value(setting).to_owned()).ok_or_else(|| unknown(name))
    }

    /// All settings with their values.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        let names = SETTINGS.iter().map(|setting| setting.name).chain(OPTIONS.iter().map(|(name, _)| *name));
        names.filter_map(|name| Some((name.to_owned(), self.show(name).ok()?))).collect()
    }

    /// The settings that clients are told of at the start.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().filter(|setting| setting.reported).map(|setting| (setting.name, self.value(setting)))
    }
}

fn find(name: &str) -> Option<&'static SessionSetting> {
    SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> Failure {
    Failure::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

/// The spelling that clients expect to read.
fn canonical<'a>(setting: &SessionSetting, value: &'a str) -> &'a str {
    match setting.takes {
        Takes::Only(UTC) => "UTC",
        Takes::Only(UTF8) => "UTF8",
        Takes::Only(ISO) => setting.default,
        Takes::Only(ON) => "on",
        _ => value,
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_take_what_is_true_here() {
        let check = |name: &str, value: &str, expect: Result<&str, &str>| {
            let mut settings = SessionSettings::default();
            let set = settings.set(name, value).map_err(|failure| failure.state);
            let shown = set.map(|_| settings.show(name).unwrap());
            assert_eq!(shown, expect.map(str::to_owned), "{name} {value}");
        };
        check("application_name", "psql", Ok("psql"));
        check("client_encoding", "utf-8", Ok("UTF8"));
        check("client_encoding", "LATIN1", Err("22023"));
        check("timezone", "Etc/UTC", Ok("UTC"));
        check("TimeZone", "Europe/Berlin", Err("22023"));
        check("datestyle", "ISO", Ok("ISO, MDY"));
        check("DateStyle", "German", Err("22023"));
        check("extra_float_digits", "3", Ok("3"));
        check("server_version", "9.6", Err("55P02"));
        check("no_such_setting", "1", Err("42704"));
        check("statement_timeout", "5s", Ok("5s"));
        check("statement_timeout", "soon", Err("22023"));
        check("thalweg.partial", "allow", Ok("allow"));
        check("THALWEG.STALE", "allow", Ok("allow"));
        check("thalweg.stale", "perhaps", Err("22023"));
        check("thalweg.rollups", "off", Ok("off"));
        check("thalweg.rollups", "default", Ok("default"));
        check("thalweg.rollups", "perhaps", Err("22023"));
        check("thalweg.certificate", "true", Ok("true"));
        check("thalweg.parts", "allow", Err("22023"));
    }

    #[test]
    fn options_hold_until_they_are_reset() {
        let mut settings = SessionSettings::default();
        settings.set("thalweg.partial", "allow").unwrap();
        settings.set("thalweg.stale", "allow").unwrap();
        settings.set("statement_timeout", "250").unwrap();
        assert!(settings.options().partial && settings.options().stale);
        assert_eq!(settings.timeout(), Some(Duration::from_millis(250)));
        settings.reset(Some("thalweg.stale")).unwrap();
        assert!(settings.options().partial && !settings.options().stale);
        assert_eq!(settings.reset(Some("nothing")).unwrap_err().state, "42704");
        assert!(settings.options().partial);
        settings.reset(None).unwrap();
        assert_eq!(settings, SessionSettings::default());
    }

    #[test]
    fn a_reset_gives_back_the_values_of_the_start_and_tells_of_them() {
        let mut settings = SessionSettings::default();
        settings.set("application_name", "first").unwrap();
        settings.started();
        settings.set("application_name", "second").unwrap();
        let before = settings.clone();
        settings.reset(None).unwrap();
        assert_eq!(settings.changes(&before), [("application_name".to_owned(), "first".to_owned())]);
        assert_eq!(settings.show("APPLICATION_NAME").unwrap(), "first");
    }

    #[test]
    fn times_have_units() {
        for (text, expect) in
            [("0", Some(0)), ("5", Some(5)), (" 5 s ", Some(5000)), ("2min", Some(120_000)), ("s", None), ("5d", None)]
        {
            assert_eq!(milliseconds(text), expect, "{text}");
        }
    }
}
