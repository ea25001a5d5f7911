//! DescribeConfigs: the broker's behaviour, under the names of Kafka's settings.
//!
//! Invariant: the settings of a topic are shown as its creator gave them, although they have no effect.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::node::{ID, Node};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Sources of a setting.
const OF_TOPIC: i8 = 1;
const BY_DEFAULT: i8 = 5;

const TOPIC_DEFAULTS: [(&str, &str); 8] = [
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("max.message.bytes", "33554432"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
    ("segment.bytes", "67108864"),
];
const BROKER_DEFAULTS: [(&str, &str); 3] =
    [("auto.create.topics.enable", "true"), ("default.replication.factor", "1"), ("num.partitions", "1")];

pub(crate) fn describe(node: &Node, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|asked| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone())
            .with_error_message(None);
        match settings(node, &asked) {
            Ok(settings) => answer.with_configs(settings),
            Err(code) => answer.with_error_code(code.code()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn settings(node: &Node, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    let mut found: Vec<(String, String, i8)> = Vec::new();
    let defaults: &[(&str, &str)] = match asked.resource_type {
        TOPIC => {
            let topic = node.topics.named(&asked.resource_name).ok_or(ResponseError::UnknownTopicOrPartition)?;
            found.extend(topic.configs.iter().map(|(name, value)| (name.clone(), value.clone(), OF_TOPIC)));
            &TOPIC_DEFAULTS
        }
        BROKER if asked.resource_name.is_empty() || *asked.resource_name == *ID.to_string() => &BROKER_DEFAULTS,
        _ => return Err(ResponseError::InvalidRequest),
    };
    for (name, value) in defaults {
        if !found.iter().any(|(known, ..)| known == name) {
            found.push(((*name).to_owned(), (*value).to_owned(), BY_DEFAULT));
        }
    }
    found.sort();
    let keys = asked.configuration_keys.as_ref();
    let wanted = found.into_iter().filter(|(name, ..)| keys.is_none_or(|keys| keys.iter().any(|key| **key == **name)));
    let setting = |(name, value, source): (String, String, i8)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_config_source(source)
            .with_read_only(true)
            .with_documentation(None)
    };
    Ok(wanted.map(setting).collect())
}
