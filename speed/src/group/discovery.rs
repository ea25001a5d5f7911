//! Finding the workers of a stream: the members of its consumer group, and the address of each.
//!
//! Invariant: only clients that are named like a worker are returned, because other tools may be members of the group
//! too.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use thalweg_schemas::Fault;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::stream::StreamDefinition;

use crate::config::{Assignment, SpeedConfig, WORKER, group};
use crate::kafka::client::ClientProperties;
use crate::kafka::client_status::ClientStatus;
use crate::{Error, Result};

/// The longest wait for the group's coordinator.
const ASK: Duration = Duration::from_secs(5);

/// Flight addresses of the workers in the groups of all streams of `catalog`; see [`members`].
///
/// A stream whose connection or options are wrong has no workers, and hides those of no other stream.
///
/// Errors: those of [`members`]: the first one that may pass; or the first one of all, if no worker is found.
pub async fn workers(config: &SpeedConfig, catalog: &Catalog) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut wrong = None;
    for (name, stream) in &catalog.streams {
        let (config, definition) = (config.clone(), stream.definition.clone());
        let asked = tokio::task::spawn_blocking(move || members(&config, &definition)).await;
        match asked.map_err(|source| Error::Task { stream: name.clone(), source })? {
            Ok(members) => found.extend(members),
            Err(error) if error.fault() == Fault::User => drop(wrong.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    match wrong {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// Flight addresses (`host:port`) of the workers in the group of `stream`, sorted; empty if the group does not exist.
/// Only the group's name and the Kafka properties of `config` matter. Blocks.
///
/// Errors: those of a client that reads; [`Error::Members`].
pub fn members(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Vec<String>> {
    let id = match &config.assignment {
        Assignment::Group { id, .. } => id.as_deref(),
        Assignment::All | Assignment::Static(_) => None,
    };
    let group = group(&stream.name, id);
    let client: BaseConsumer<ClientStatus> =
        ClientProperties::of_reader(config, stream)?.create(ClientStatus::default())?;
    let found = client.fetch_group_list(Some(&group), ASK);
    let found = found.map_err(|source| Error::Members { group: group.clone(), source })?;
    let members = found.groups().iter().flat_map(|group| group.members());
    Ok(addresses(members.map(|member| member.client_id())))
}

/// The addresses in the names of clients. Clients that are not named like a worker are left out.
fn addresses<'a>(clients: impl Iterator<Item = &'a str>) -> Vec<String> {
    let addresses: BTreeSet<String> = clients.filter_map(address).collect();
    addresses.into_iter().collect()
}

fn address(client: &str) -> Option<String> {
    let address = client.strip_prefix(WORKER)?;
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port != 0).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_stream_there_is_no_group_to_ask() {
        let found = super::workers(&SpeedConfig::default(), &Catalog::default()).await;
        assert!(found.unwrap().is_empty());
    }

    #[test]
    fn workers_are_known_by_their_clients_names() {
        let check = |clients: &[&str], expect: &[&str]| {
            assert_eq!(addresses(clients.iter().copied()), expect, "{clients:?}");
        };
        check(&[], &[]);
        check(&["thalweg-speed@b:2", "thalweg-speed@a:1", "thalweg-speed@b:2"], &["a:1", "b:2"]);
        check(&["thalweg-speed@[::1]:9200"], &["[::1]:9200"]);
        let others = ["", "rdkafka", "thalweg", "thalweg-speed", "Thalweg-speed@a:1"];
        check(&others, &[]);
        let broken = ["@", "@a", "@:1", "@a:", "@a:x", "@a:0", "@a:65536", "@a:-1"];
        let broken = broken.map(|address| format!("thalweg-speed{address}"));
        check(&broken.each_ref().map(String::as_str), &[]);
    }
}
