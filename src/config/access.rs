//! Who may ask over HTTP, and the ways to Kafka, from the settings.
//!
//! Invariant: settings that would let a stranger in are refused here, before any port listens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Deserializer, de};
use thalweg_schemas::definition::is_connection;
use thalweg_schemas::definition::kafka_options::set_by_platform;
use thalweg_schemas::reference::look_up;
use thalweg_serving::{Access, AccessToken, Origins};
use thalweg_speed::{KafkaConnections, Properties, unknown_registry_property};
use toml::Value;

use super::Settings;

impl Settings {
    /// Who may do what over HTTP. `definitions` is true if this process changes definitions on request.
    ///
    /// Errors: a token cannot be looked up; or other machines reach the server, and nothing keeps strangers out.
    pub(crate) fn access(&self, definitions: bool) -> Result<Access> {
        let query = token("http_token", &self.http_token)?;
        let admin = token("http_admin_token", &self.http_admin_token)?;
        let guarded = query.is_some() || admin.is_some();
        let reached = |address: &SocketAddr| !address.ip().is_loopback();
        if let Some((name, address)) = self.doors().into_iter().find(|(_, address)| reached(address))
            && !guarded
            && !self.http_open
        {
            bail!(
                "{name} {address} can be reached from other machines, and there is no token: set THALWEG_HTTP_TOKEN (its \
                 holders may query) and THALWEG_HTTP_ADMIN_TOKEN (its holders may define streams and views as well), or \
                 listen on 127.0.0.1; http_open = true lets everybody in"
            );
        }
        let with_port =
            |host: &&String| !host.starts_with('[') && host.parse::<IpAddr>().is_err() && host.contains(':');
        if let Some(host) = self.http_hosts.iter().find(with_port) {
            bail!("http_hosts has `{host}`; write the name alone, without a port");
        }
        if self.http_open && guarded {
            bail!("http_open lets everybody in, and a token keeps strangers out; set one of them");
        }
        let (hosts, origins) = (self.hosts(), self.origins()?);
        Ok(Access { query, admin, metrics_open: self.metrics_open, hosts, origins, definitions })
    }

    /// The pages of other sites that may ask.
    ///
    /// Errors: a setting that no browser sends as an origin.
    fn origins(&self) -> Result<Origins> {
        let mut origins = Origins::default();
        for origin in &self.http_origins {
            if origin == "*" {
                origins.any = true;
                continue;
            }
            let host = origin.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme));
            let is_exact = host.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '?', '#', '*', '@']));
            if !is_exact || *origin != origin.to_lowercase() {
                bail!(
                    "http_origins has `{origin}`; write what browsers send, as in https://dashboards.example or \
                     http://localhost:3000, in lower case and without a path, or * for every page"
                );
            }
            origins.named.insert(origin.clone());
        }
        Ok(origins)
    }

    /// The addresses at which clients are served, and their settings.
    fn doors(&self) -> Vec<(&'static str, SocketAddr)> {
        let optional = [("postgres_addr", self.postgres_addr), ("flight_sql_addr", self.flight_sql_addr)];
        let opened = optional.into_iter().filter_map(|(name, address)| Some((name, address?)));
        std::iter::once(("http_addr", self.http_addr)).chain(opened).collect()
    }

    /// The names of this server besides loopback; `None`: any name.
    fn hosts(&self) -> Option<BTreeSet<String>> {
        let any = !self.http_addr.ip().is_loopback() && self.http_hosts.is_empty();
        (!any).then(|| self.http_hosts.iter().map(|host| host.to_lowercase()).collect())
    }

    /// Who may read the metrics of a process that answers no queries.
    ///
    /// Errors: a token cannot be looked up.
    pub(crate) fn probe_access(&self) -> Result<Access> {
        let query = token("http_token", &self.http_token)?;
        let admin = token("http_admin_token", &self.http_admin_token)?;
        let hosts = self.hosts();
        Ok(Access { query, admin, metrics_open: self.metrics_open, hosts, definitions: false, ..Access::default() })
    }

    /// The connections to Kafka.
    pub(crate) fn connections(&self) -> KafkaConnections {
        KafkaConnections { default: self.kafka.clone(), named: self.connection.clone() }
    }
}

fn token(setting: &str, written: &str) -> Result<Option<AccessToken>> {
    Ok(secret(setting, written)?.map(|token| AccessToken::new(&token)))
}

/// The secret that a setting gives or refers to; `None` if the setting is empty.
///
/// Errors: the reference cannot be looked up, or leads to nothing.
pub(super) fn secret(setting: &str, written: &str) -> Result<Option<String>> {
    if written.is_empty() {
        return Ok(None);
    }
    let found = look_up(written).map_err(|reason| anyhow!("{setting} refers to {written}, but {reason}"))?;
    // The token is sent in a header.
    let can_be_sent = found.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    match found.is_empty() || found.trim() != found || !can_be_sent {
        true => bail!(
            "{setting} is empty, or has line breaks, characters beyond ASCII, or spaces at an end; write a random \
             word, as `openssl rand -hex 32` prints it"
        ),
        false => Ok(Some(found)),
    }
}

/// Reads a secret or a reference to it. An error shows no value.
pub(super) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        _ => Err(de::Error::custom("a token is a text in quotes")),
    }
}

/// Reads `[kafka]`.
pub(super) fn kafka<'de, D: Deserializer<'de>>(from: D) -> Result<Properties, D::Error> {
    let properties = super::dotted(from)?;
    accept("kafka", &properties).map_err(de::Error::custom)?;
    Ok(properties)
}

/// Reads `[connection.NAME]`; the keys of the flat table are NAME.PROPERTY.
pub(super) fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Properties>, D::Error> {
    let mut named: BTreeMap<String, Properties> = BTreeMap::new();
    for (key, value) in super::dotted(from)? {
        let named_property = key.split_once('.').filter(|(name, _)| is_connection(name));
        let Some((name, property)) = named_property else {
            return Err(de::Error::custom(format!(
                "`connection.{key}` is not a property of a connection; write [connection.NAME] with properties of \
                 librdkafka in it, and lower-case letters, digits and dashes in NAME"
            )));
        };
        named.entry(name.to_owned()).or_default().insert(property.to_owned(), value);
    }
    for (name, properties) in &named {
        accept(&format!("connection.{name}"), properties).map_err(de::Error::custom)?;
    }
    Ok(named)
}

fn accept(table: &str, properties: &Properties) -> Result<(), String> {
    let own = properties.keys().find_map(|property| Some((property, set_by_platform(property)?)));
    match (own, unknown_registry_property(properties)) {
        (Some((property, advice)), _) => {
            Err(format!("the platform itself sets {property}, which [{table}] gives; {advice}"))
        }
        (None, Some((property, known))) => {
            Err(format!("[{table}] gives {property}; of the schema registry there are {}", known.join(", ")))
        }
        (None, None) => Ok(()),
    }
}

/// Reads names as a list, or as a text with commas.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let refuse = |value: &Value| de::Error::custom(format!("`{value}` is not a name, or a list of names"));
    let text = match Value::deserialize(from)? {
        Value::String(text) => text,
        Value::Array(items) => {
            let items: Result<Vec<&str>, _> =
                items.iter().map(|item| item.as_str().ok_or_else(|| refuse(item))).collect();
            items?.join(",")
        }
        other => return Err(refuse(&other)),
    };
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Result<Settings> {
        Settings::from_table(toml.parse().unwrap())
    }

    #[test]
    fn strangers_are_kept_out_of_http() {
        for (toml, part) in [
            ("http_addr = '127.0.0.1:1'", None),
            ("http_addr = '[::1]:1'", None),
            ("http_addr = '127.9.9.9:1'", None),
            ("http_addr = '0.0.0.0:1'", Some("THALWEG_HTTP_TOKEN")),
            ("http_addr = '10.0.0.1:1'", Some("listen on 127.0.0.1")),
            ("http_addr = '[::]:1'", Some("http_open = true")),
            ("postgres_addr = '0.0.0.0:1'", Some("postgres_addr 0.0.0.0:1 can be reached")),
            ("flight_sql_addr = '[::]:1'", Some("flight_sql_addr [::]:1 can be reached")),
            ("postgres_addr = ''\nflight_sql_addr = ''", None),
            ("http_addr = '0.0.0.0:1'\nhttp_token = 'x'", None),
            ("http_addr = '0.0.0.0:1'\nhttp_admin_token = 'x'", None),
            ("http_addr = '0.0.0.0:1'\nhttp_open = true", None),
            ("http_addr = '0.0.0.0:1'\nhttp_open = 'true'", None),
            ("http_open = true\nhttp_token = 'x'", Some("set one of them")),
            ("http_token = '${env:THALWEG_TEST_NOT_SET}'", Some("is not set")),
            ("http_token = '${file:/no/such}'", Some("cannot be read")),
            ("http_token = ' x'", Some("openssl rand")),
            ("http_token = \"x\\ny\"", Some("openssl rand")),
            ("http_token = '${file:/dev/null}'", Some("is empty")),
        ] {
            let said = settings(toml).unwrap().access(true).err().map(|e| e.to_string());
            match (said, part) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part), "{toml}: {said}"),
                (said, _) => panic!("{toml}: {said:?}"),
            }
        }
    }

    #[test]
    fn no_error_shows_a_token() {
        for toml in ["http_token = 4711", "cluster_token = [4711]", "[kafka]\nsasl.password = [4711]"] {
            let error = super::tests::settings(toml).unwrap_err().to_string();
            assert!(!error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn hosts_are_those_of_the_settings_and_of_loopback() {
        for (toml, expect) in [
            ("", Some(vec![])),
            ("http_hosts = 'A.example, b'", Some(vec!["a.example", "b"])),
            ("http_hosts = ['a.example', 'b']", Some(vec!["a.example", "b"])),
            ("http_addr = '0.0.0.0:1'\nhttp_open = true", None),
            ("http_addr = '0.0.0.0:1'\nhttp_open = true\nhttp_hosts = 'a'", Some(vec!["a"])),
        ] {
            let expect = expect.map(|hosts| hosts.into_iter().map(str::to_owned).collect());
            assert_eq!(settings(toml).unwrap().access(true).unwrap().hosts, expect, "{toml}");
        }
    }

    #[test]
    fn origins_are_those_that_browsers_send() {
        let origins = |toml: &str| settings(toml).unwrap().access(true).map(|access| access.origins);
        assert_eq!(origins("").unwrap(), Origins::default());
        let named = ["https://a.example".to_owned(), "http://localhost:3000".to_owned()];
        let expect = Origins { any: false, named: named.into() };
        assert_eq!(origins("http_origins = 'https://a.example, http://localhost:3000'").unwrap(), expect);
        assert_eq!(origins("http_origins = ['*']").unwrap(), Origins { any: true, ..Origins::default() });
        for wrong in [
            "a.example",
            "https://a.example/",
            "https://A.example",
            "https://*.a.example",
            "ftp://a",
            "null",
            "https://",
        ] {
            let refused = origins(&format!("http_origins = '{wrong}'")).unwrap_err();
            assert!(refused.to_string().contains("what browsers send"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn connections_have_names_and_properties() {
        let toml = "[kafka]\nbootstrap.servers = 'a'\n[connection.eu]\nbootstrap.servers = 'b'\nsasl.password = 'hunter2'\n\
                    [connection.us-2]\n'bootstrap.servers' = 'c'";
        let settings = settings(toml).unwrap();
        let found = settings.connections();
        assert_eq!(found.default["bootstrap.servers"], "a");
        assert_eq!(found.named["eu"]["bootstrap.servers"], "b");
        assert_eq!(found.named["us-2"]["bootstrap.servers"], "c");
        assert!(!format!("{settings:?} {found:?}").contains("hunter2"));
        for (toml, part) in [
            ("[connection]\nx = 'y'", "`connection.x` is not a property"),
            ("[connection.Eu]\nx = 'y'", "lower-case letters"),
            ("[connection.eu]\nx = [1]", "must be a string or a number"),
            ("[connection.eu]\ngroup.id = 'x'", "the platform itself sets group.id, which [connection.eu] gives"),
            ("[kafka]\nenable.auto.commit = true", "the platform itself sets enable.auto.commit, which [kafka] gives"),
            ("[kafka]\nauto.offset.reset = 'earliest'", "leave it out"),
            ("connection = 'eu'", "connection"),
        ] {
            let error = super::tests::settings(toml).unwrap_err().to_string();
            assert!(error.contains(part), "{toml}: {error}");
        }
    }
}
