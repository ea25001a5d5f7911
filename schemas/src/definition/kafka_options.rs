//! The librdkafka properties that the definition of a stream may set. All other properties belong to a connection,
//! which only the operator's settings define.
//!
//! Invariant: no property in [`TUNING`] names a server, a file, a secret, a library or a position in the log. So a
//! definition makes no process connect to, read or reveal what the operator did not allow.

use std::collections::BTreeMap;

use crate::Error;
use crate::error::Diagnostic;

/// The prefix of librdkafka's properties among the options of a stream.
pub(crate) const KAFKA: &str = "kafka.";

/// Properties that only decide how much is fetched, and when.
pub const TUNING: [&str; 25] = [
    "check.crcs",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.ms",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Properties that the platform sets, and what to do instead of setting them.
const OWN: [(&str, &str); 12] = [
    ("auto.commit.enable", OFFSETS),
    ("auto.offset.reset", OFFSETS),
    ("enable.auto.commit", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("enable.partition.eof", OFFSETS),
    ("group.id", "leave it out; the setting group_id is what the names of consumer groups begin with"),
    ("group.instance.id", "leave it out; the setting group_instance names this process"),
    ("group.protocol", "leave it out; workers share partitions by the classic protocol"),
    ("group.remote.assignor", "leave it out; workers share partitions by the classic protocol"),
    ("isolation.level", "leave it out; messages of aborted transactions are never read"),
    ("partition.assignment.strategy", "leave it out; partitions move one by one (cooperative-sticky)"),
    ("offset.store.method", OFFSETS),
];

const OFFSETS: &str = "leave it out; positions are those of the archive, and nothing is skipped";

/// What to do instead of setting `property`, if the platform sets it.
pub fn set_by_platform(property: &str) -> Option<&'static str> {
    OWN.iter().find(|(own, _)| *own == property).map(|(_, advice)| *advice)
}

/// The first property that a definition may not set as it does, and why.
pub fn refused(properties: &BTreeMap<String, String>) -> Option<(&str, Diagnostic)> {
    properties.iter().find_map(|(property, value)| Some((property.as_str(), refuse(property, value)?)))
}

/// Errors: [`Error::RefuseDefinition`] without a place.
pub(crate) fn accept(properties: &BTreeMap<String, String>) -> Result<(), (String, Error)> {
    match refused(properties) {
        None => Ok(()),
        Some((property, reason)) => Err((property.to_owned(), Error::RefuseDefinition(reason))),
    }
}

fn refuse(property: &str, value: &str) -> Option<Diagnostic> {
    let refusal = |message: String, help: &str| Some(Diagnostic::new(message).with_help(help));
    if let Some(advice) = set_by_platform(property) {
        let mut advice = advice.to_owned();
        advice[..1].make_ascii_uppercase();
        return refusal(format!("The platform itself sets '{KAFKA}{property}'"), &format!("{advice}."));
    }
    if !TUNING.contains(&property) {
        return refusal(
            format!("A definition cannot set '{KAFKA}{property}'"),
            &format!(
                "Servers, security and whatever else is not about fetching belong to a connection: define \
                 [connection.x] with {property} in the settings, and write 'connection' 'x' here."
            ),
        );
    }
    if value.contains("${") {
        return refusal(
            format!("A definition cannot refer to variables or files, as '{KAFKA}{property}' does"),
            "Write the value itself; references are for the connections in the settings.",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tunes_fetching_is_accepted() {
        let check = |property: &str, value: &str, expect: Option<&str>| {
            let properties = BTreeMap::from([(property.to_owned(), value.to_owned())]);
            let said = refused(&properties).map(|(named, reason)| {
                assert_eq!(named, property);
                format!("{reason}")
            });
            match (said, expect) {
                (None, None) => {}
                (Some(said), Some(part)) => {
                    assert!(said.contains(part) && said.contains(property), "{said}");
                    assert!(!said.contains("hunter2"), "{said}");
                }
                (said, _) => panic!("{property} {value}: {said:?}"),
            }
        };
        for property in TUNING {
            check(property, "1", None);
            check(property, "${file:/hunter2}", Some("cannot refer"));
            check(property, "x${env:hunter2}y", Some("cannot refer"));
        }
        for (property, _) in OWN {
            check(property, "hunter2", Some("The platform itself sets"));
        }
        for property in [
            "bootstrap.servers",
            "metadata.broker.list",
            "brokers",
            "security.protocol",
            "sasl.mechanism",
            "sasl.mechanisms",
            "sasl.username",
            "sasl.password",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.kerberos.kinit.cmd",
            "ssl.ca.location",
            "ssl.engine.location",
            "ssl.keystore.password",
            "plugin.library.paths",
            "debug",
            "log_level",
            "socket.connect.cb",
            "client.dns.lookup",
            "broker.address.family",
            "https.ca.location",
            "interceptors",
            "statistics.interval.ms",
            "no.such.property",
            "Client.Id",
            "",
        ] {
            check(property, "hunter2", Some("[connection.x]"));
        }
    }
}
