//! A client of librdkafka for one stream, made from a connection of the settings and the stream's own properties.
//!
//! Invariant: references are looked up here, only in connections, and no error shows a value of a client's
//! configuration.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use thalweg_schemas::definition::stream::StreamDefinition;

use crate::config::{SpeedConfig, kafka_properties, member_properties, producer_properties};
use crate::connections::{KafkaConnections, Properties, table_of};
use crate::kafka::secrets::{is_reference, resolve};
use crate::{Error, Result};

const SERVERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];

/// The configuration of one client, with looked-up references.
pub(crate) struct ClientProperties<'a> {
    stream: &'a StreamDefinition,
    /// The brokers for messages: as the settings name them, so a reference stays a reference.
    pub(crate) brokers: String,
    properties: Properties,
    /// Values that no message may contain.
    secrets: Vec<String>,
}

impl<'a> ClientProperties<'a> {
    /// The configuration of a client that reads.
    ///
    /// Errors: [`Error::FindConnection`], [`Error::RefuseOption`], [`Error::FindBrokers`], [`Error::Secret`].
    pub(crate) fn of_reader(config: &SpeedConfig, stream: &'a StreamDefinition) -> Result<Self> {
        Self::look_up(stream, kafka_properties(stream, config)?)
    }

    /// The configuration of a client that is a member of the group and reads nothing.
    ///
    /// Errors: those of [`Self::of_reader`].
    pub(crate) fn of_member(config: &SpeedConfig, stream: &'a StreamDefinition) -> Result<Self> {
        Self::look_up(stream, member_properties(stream, config)?)
    }

    /// The configuration of a client that writes, with these properties over the defaults of this layer, and those
    /// under the user's.
    ///
    /// Errors: those of [`Self::of_reader`].
    pub(crate) fn of_producer(
        kafka: &KafkaConnections,
        stream: &'a StreamDefinition,
        defaults: Properties,
        fixed: Properties,
    ) -> Result<Self> {
        Self::look_up(stream, producer_properties(stream, kafka, defaults, fixed)?)
    }

    /// The value of a property.
    pub(crate) fn get(&self, property: &str) -> Option<&str> {
        self.properties.get(property).map(String::as_str)
    }

    fn look_up(stream: &'a StreamDefinition, written: BTreeMap<String, String>) -> Result<Self> {
        let brokers = SERVERS.iter().find_map(|key| written.get(*key).cloned());
        let table = || table_of(stream);
        let brokers = brokers.ok_or_else(|| Error::FindBrokers { stream: stream.name.clone(), table: table() })?;
        let hidden: Vec<String> =
            written.iter().filter(|(k, v)| is_reference(v) || is_secret(k)).map(|(k, _)| k.clone()).collect();
        let properties = resolve(stream, &table(), written)?;
        let secrets = hidden.iter().filter_map(|key| properties.get(key).cloned()).collect();
        Ok(Self { stream, brokers, properties, secrets })
    }

    /// Makes the client. No request is sent to Kafka yet.
    ///
    /// Errors: [`Error::Configure`].
    pub(crate) fn create<C, T>(&self, context: C) -> Result<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let config: ClientConfig = self.properties.clone().into_iter().collect();
        config.create_with_context(context).map_err(|error| self.refusal(&error))
    }

    /// The error of a client that cannot be made.
    pub(crate) fn refusal(&self, error: &KafkaError) -> Error {
        Error::Configure {
            stream: self.stream.name.clone(),
            table: table_of(self.stream),
            reason: reason(error, &self.secrets),
        }
    }
}

/// True for properties whose values are secrets, also if they are written out.
fn is_secret(property: &str) -> bool {
    ["password", "secret", "pem", "jaas", "token", "oauthbearer", "username"].iter().any(|word| property.contains(word))
}

/// The reason in librdkafka's words, without any value of the configuration.
fn reason(error: &KafkaError, secrets: &[String]) -> String {
    match error {
        // librdkafka's description repeats the value.
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, key, _) => {
            format!("librdkafka has no property {key}")
        }
        KafkaError::ClientConfig(_, _, key, _) => format!("the value of {key} is not one that librdkafka takes"),
        other => {
            let said = other.to_string();
            match secrets.iter().any(|secret| !secret.is_empty() && said.contains(secret)) {
                true => "librdkafka refuses a value; its message would show a secret".to_owned(),
                false => said,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, DefaultConsumerContext};
    use thalweg_kit::definitions::stream;

    use super::*;

    /// The error of a client with these properties in `[kafka]`, and these of the stream.
    fn fail(connection: &[(&str, &str)], own: &[(&str, &str)], named: Option<&str>) -> String {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let connections = KafkaConnections { default: of(connection), named: [("eu".to_owned(), of(&[]))].into() };
        let config = SpeedConfig { kafka: connections, ..SpeedConfig::default() };
        let mut stream = stream("s", &[]);
        stream.kafka = of(own);
        stream.connection = named.map(str::to_owned);
        let made = ClientProperties::of_reader(&config, &stream)
            .and_then(|client| client.create::<_, BaseConsumer>(DefaultConsumerContext));
        let error = made.err().expect("it is refused");
        assert_eq!(error.fault(), thalweg_schemas::Fault::User);
        format!("{error} {error:?}")
    }

    #[test]
    fn errors_of_a_configuration_show_no_value() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2\n").unwrap();
        let reference = format!("${{file:{}}}", secret.display());
        let servers = ("bootstrap.servers", "nowhere:1");
        for (property, part) in [
            ("debug", "the value of debug"),
            ("fetch.wait.max.ms", "the value of fetch.wait.max.ms"),
            ("security.protocol", "the value of security.protocol"),
            ("no.such.property", "no property no.such.property"),
            ("sasl.mechanism", "cannot be configured"),
            ("ssl.ca.location", "cannot be configured"),
        ] {
            for value in [reference.as_str(), "hunter2"] {
                let mut given = vec![servers, (property, value)];
                if property.starts_with("sasl") || property.starts_with("ssl") {
                    given.push(("security.protocol", "sasl_ssl"));
                }
                let said = fail(&given, &[], None);
                assert!(said.contains(part), "{said}");
                let shows = said.contains("hunter2");
                assert!(!shows || (value == "hunter2" && part == "cannot be configured"), "{said}");
            }
        }
    }

    #[test]
    fn what_a_definition_may_not_set_makes_no_client() {
        let servers = [("bootstrap.servers", "nowhere:1")];
        for (own, part) in [
            ([("bootstrap.servers", "evil:1")], "[connection.x]"),
            ([("debug", "hunter2")], "[connection.x]"),
            ([("client.id", "${file:/etc/hostname}")], "cannot refer"),
            ([("enable.auto.commit", "true")], "platform itself"),
        ] {
            let said = fail(&servers, &own, None);
            assert!(said.contains(part) && said.contains("CREATE OR REPLACE"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let said = fail(&servers, &[], Some("us"));
        assert!(said.contains("`us`") && said.contains("[connection.us]") && said.contains("eu"), "{said}");
        let said = fail(&servers, &[], Some("eu"));
        assert!(said.contains("[connection.eu] does not say where Kafka is"), "{said}");
        let said = fail(&[], &[], None);
        assert!(said.contains("[kafka] does not say where Kafka is"), "{said}");
    }

    #[test]
    fn a_reference_to_brokers_stays_a_reference_in_messages() {
        let default = [("bootstrap.servers".to_owned(), "${env:PATH}".to_owned())].into();
        let kafka = KafkaConnections { default, ..KafkaConnections::default() };
        let config = SpeedConfig { kafka, ..SpeedConfig::default() };
        let stream = stream("s", &[]);
        let client = ClientProperties::of_reader(&config, &stream).unwrap();
        assert_eq!(client.brokers, "${env:PATH}");
        assert_eq!(client.properties["bootstrap.servers"], std::env::var("PATH").unwrap());
    }
}
