//! The settings as clients may see them, in the table `thalweg.settings`.
//!
//! Invariant: no value that may be a secret is shown, whichever key holds it.

use std::collections::BTreeMap;

use thalweg_serving::ShownSetting;
use toml::{Table, Value};

/// What is shown in place of a value that may be a secret.
const HIDDEN: &str = "***";

/// Keys of tables whose values are no secrets; the values of all others are hidden.
const OPEN: [&str; 1] = ["kafka.bootstrap.servers"];

/// The settings of `table`. `sources` names the layer of each key; other keys have their default.
pub(super) fn shown(table: &Table, sources: &BTreeMap<String, String>) -> Vec<ShownSetting> {
    let mut all = Vec::new();
    let mut add = |name: String, value: String, key: &str| {
        let source = sources.get(key).cloned().unwrap_or_else(|| "default".to_owned());
        all.push(ShownSetting { name, value, source });
    };
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                for (inner, value) in super::flatten(inner.clone()) {
                    let name = format!("{key}.{inner}");
                    let value = if OPEN.contains(&name.as_str()) { text(&value) } else { HIDDEN.to_owned() };
                    add(name, value, key);
                }
            }
            value => add(key.clone(), hidden(key, text(value)), key),
        }
    }
    all
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Hides a token, and an address that holds a password.
fn hidden(key: &str, value: String) -> String {
    let may_be_secret = key.ends_with("_token") || key.ends_with("_password") || value.contains('@');
    if may_be_secret && !value.is_empty() { HIDDEN.to_owned() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_unless_they_may_be_secrets() {
        let table: Table = "http_addr = '127.0.0.1:1'\nhttp_token = 'abc'\nhttp_admin_token = ''\nmax_queries = 7\n\
             warehouse = 's3://me:word@host/x'\n[kafka]\n'sasl.password' = 'word'\nbootstrap.servers = 'a:1'\n\
             [storage]\naws_secret_access_key = 'key'\n[connection.eu]\n'sasl.password' = 'word'"
            .parse()
            .unwrap();
        let sources = BTreeMap::from([("max_queries".to_owned(), "the flags".to_owned())]);
        let all = shown(&table, &sources);
        let check = |name: &str, value: &str, source: &str| {
            let found = all.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}: {all:?}"));
            assert_eq!((found.value.as_str(), found.source.as_str()), (value, source), "{name}");
        };
        check("http_addr", "127.0.0.1:1", "default");
        check("http_token", HIDDEN, "default");
        check("http_admin_token", "", "default");
        check("max_queries", "7", "the flags");
        check("warehouse", HIDDEN, "default");
        check("kafka.sasl.password", HIDDEN, "default");
        check("kafka.bootstrap.servers", "a:1", "default");
        check("storage.aws_secret_access_key", HIDDEN, "default");
        check("connection.eu.sasl.password", HIDDEN, "default");
        let secrets = ["word", "abc", "key"];
        assert!(all.iter().all(|setting| !secrets.contains(&setting.value.as_str())), "{all:?}");
    }
}
