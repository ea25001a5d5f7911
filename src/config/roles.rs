//! The settings of separate processes: the addresses of workers, the partitions of one worker, and how replicas and
//! workers authenticate each other.
//!
//! Invariant: settings that would let a stranger read rows are refused here, before any port listens.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer, de};
use thalweg_schemas::{Partition, host};
use thalweg_serving::WorkersAt;
use toml::Value;

/// Parses "host:port, host:port", "dns:host:port" or "group".
pub(crate) fn parse_workers(text: &str) -> Result<WorkersAt, String> {
    let text = text.trim();
    if text == "group" {
        return Ok(WorkersAt::Group);
    }
    if let Some(name) = text.strip_prefix("dns:") {
        let (host, port) = address(name)?;
        return Ok(WorkersAt::Dns { host, port });
    }
    let listed: Vec<&str> = text.split(',').map(str::trim).collect();
    for one in &listed {
        address(one)?;
    }
    Ok(WorkersAt::List(listed.into_iter().map(str::to_owned).collect()))
}

/// Splits HOST:PORT; an IPv6 address is in brackets.
fn address(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host.starts_with('[') && host.ends_with(']');
        let host_fits = !host.is_empty() && (bare || !host.contains([':', '/', ' ']));
        host_fits.then(|| (host.to_owned(), port))
    });
    parts.ok_or_else(|| format!("`{text}` is no worker; write HOST:PORT,HOST:PORT, dns:HOST:PORT or group"))
}

/// Parses "0-15,20"; an empty text gives `None`: the consumer group assigns the partitions.
pub(crate) fn parse_partitions(text: &str) -> Result<Option<BTreeSet<Partition>>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut all = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => {
                all.extend((first..=last).map(|p| Partition(i32::from(p))));
            }
            _ => return Err(format!("`{part}` are no partitions; write 0-15,20")),
        }
    }
    Ok(Some(all))
}

/// The settings of Arrow Flight between replicas and workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) token: String,
    pub(crate) tls_cert: PathBuf,
    pub(crate) tls_key: PathBuf,
    pub(crate) tls_ca: PathBuf,
}

impl Cluster {
    pub(crate) fn token(&self) -> Option<String> {
        Some(self.token.clone()).filter(|token| !token.is_empty())
    }

    /// Returns a worker's certificate and key as PEM; `None` without TLS.
    ///
    /// Errors: only one of the two is given, or a file cannot be read.
    pub(crate) fn identity(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        match (given(&self.tls_cert), given(&self.tls_key)) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((read("tls_cert", cert)?, read("tls_key", key)?))),
            _ => bail!("tls_cert and tls_key belong together; set both or none"),
        }
    }

    /// Returns the authority that a replica trusts, as PEM; with it, connections to workers use TLS.
    ///
    /// Errors: the file cannot be read.
    pub(crate) fn authority(&self) -> Result<Option<Vec<u8>>> {
        let ca = given(&self.tls_ca);
        ca.map(|ca| read("tls_ca", ca)).transpose()
    }

    /// Errors: a replica would send the token to every address that somebody in a consumer group names.
    pub(crate) fn trusts(&self, workers: &WorkersAt) -> Result<()> {
        if *workers != WorkersAt::Group || self.token.is_empty() || given(&self.tls_ca).is_some() {
            return Ok(());
        }
        bail!(
            "with workers = \"group\", whoever may join the consumer groups names addresses to which the cluster_token is \
             sent: set tls_ca, the authority of the workers' certificates, or list the workers (HOST:PORT,… or dns:…)"
        )
    }

    /// Errors: other machines could reach a worker at `address`, and no token keeps strangers out.
    pub(crate) fn guards(&self, address: SocketAddr) -> Result<()> {
        if address.ip().is_loopback() || !self.token.is_empty() {
            return Ok(());
        }
        bail!(
            "flight_addr {address} can be reached from other machines, and there is no cluster_token: set \
             THALWEG_CLUSTER_TOKEN to the same secret for workers and replicas, or listen on 127.0.0.1"
        )
    }
}

fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{setting}: {} cannot be read", path.display()))
}

/// Returns the HOST:PORT by which others reach a listener at `address`: `said` if given, else the address. The
/// machine's name replaces an unspecified address such as 0.0.0.0.
pub(crate) fn advertised(said: &str, address: SocketAddr) -> String {
    if !said.is_empty() {
        return said.to_owned();
    }
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    match host::name() {
        Some(name) => format!("{name}:{}", address.port()),
        None => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port()).to_string(),
    }
}

/// Reads `workers` as text, or as a list in a file.
pub(super) fn workers<'de, D: Deserializer<'de>>(from: D) -> Result<WorkersAt, D::Error> {
    let text = match Value::deserialize(from)? {
        Value::String(text) => text,
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items
                .map(|items| items.join(","))
                .ok_or_else(|| de::Error::custom("`workers` is a list of texts such as \"host:8643\""))?
        }
        other => return Err(de::Error::custom(format!("`{other}` are no workers"))),
    };
    parse_workers(&text).map_err(de::Error::custom)
}

pub(super) fn partitions<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeSet<Partition>>, D::Error> {
    parse_partitions(&super::text(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_a_list_a_name_or_the_group() {
        let list = |all: &[&str]| Ok(WorkersAt::List(all.iter().map(|&w| w.to_owned()).collect()));
        let dns = |host: &str, port| Ok(WorkersAt::Dns { host: host.to_owned(), port });
        let refused = |text: &str| Err(text.to_owned());
        for (text, expect) in [
            ("a:1", list(&["a:1"])),
            ("a:1, b.c:2", list(&["a:1", "b.c:2"])),
            ("[::1]:8643", list(&["[::1]:8643"])),
            ("dns:speed.svc:8643", dns("speed.svc", 8643)),
            (" group ", Ok(WorkersAt::Group)),
            ("", refused("")),
            ("a", refused("a")),
            ("a:0", refused("a:0")),
            ("a:x", refused("a:x")),
            (":1", refused(":1")),
            ("::1:8643", refused("::1:8643")),
            ("a:1,,b:2", refused("")),
            ("http://a:1", refused("http://a:1")),
            ("dns:speed", refused("speed")),
        ] {
            let expect = expect
                .map_err(|bad| format!("`{bad}` is no worker; write HOST:PORT,HOST:PORT, dns:HOST:PORT or group"));
            assert_eq!(parse_workers(text), expect, "{text}");
        }
    }

    #[test]
    fn partitions_are_numbers_and_ranges() {
        let of = |all: &[i32]| Ok(Some(all.iter().map(|p| Partition(*p)).collect()));
        for (text, expect) in [
            ("", Ok(None)),
            (" ", Ok(None)),
            ("3", of(&[3])),
            ("0-2,7, 5 - 6", of(&[0, 1, 2, 5, 6, 7])),
            ("0-2,1-3", of(&[0, 1, 2, 3])),
            ("2-1", Err("2-1")),
            ("-1", Err("-1")),
            ("1,", Err("")),
            ("all", Err("all")),
        ] {
            let expect = expect.map_err(|bad| format!("`{bad}` are no partitions; write 0-15,20"));
            assert_eq!(parse_partitions(text), expect, "{text}");
        }
    }

    #[test]
    fn strangers_are_kept_out() {
        let with = |token: &str| Cluster { token: token.to_owned(), ..Cluster::default() };
        for (address, token, fine) in [
            ("127.0.0.1:1", "", true),
            ("[::1]:1", "", true),
            ("0.0.0.0:1", "", false),
            ("10.0.0.1:1", "", false),
            ("[::]:1", "", false),
            ("0.0.0.0:1", "secret", true),
        ] {
            let guards = with(token).guards(address.parse().unwrap());
            assert_eq!(guards.is_ok(), fine, "{address}");
        }
        let group = WorkersAt::Group;
        let dns = WorkersAt::Dns { host: "a".to_owned(), port: 1 };
        for (token, ca, workers, fine) in [
            ("", "", &group, true),
            ("secret", "", &group, false),
            ("secret", "ca.pem", &group, true),
            ("secret", "", &dns, true),
            ("secret", "", &WorkersAt::List(vec!["a:1".to_owned()]), true),
        ] {
            let cluster = Cluster { tls_ca: ca.into(), ..with(token) };
            assert_eq!(cluster.trusts(workers).is_ok(), fine, "{token} {ca} {workers:?}");
        }
        let half = Cluster { tls_key: "key.pem".into(), ..Cluster::default() };
        let error = half.identity().unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
    }

    #[test]
    fn workers_are_reached_where_they_say() {
        let of = |said, address: &str| advertised(said, address.parse().unwrap());
        assert_eq!(of("", "10.0.0.1:7"), "10.0.0.1:7");
        assert_eq!(of("speed-0.speed:7", "0.0.0.0:7"), "speed-0.speed:7");
        let named = of("", "0.0.0.0:7");
        assert!(named.ends_with(":7") && !named.starts_with("0.0.0.0"), "{named}");
    }
}
