//! The properties of clients, and the partitions at the start.

use super::*;

fn of(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn config(kafka: &[(&str, &str)], memory_budget: usize) -> SpeedConfig {
    let kafka = KafkaConnections { default: of(kafka), ..KafkaConnections::default() };
    SpeedConfig { kafka, memory_budget, ..SpeedConfig::default() }
}

/// The stream `s` with these properties of its own.
fn stream(own: &[(&str, &str)]) -> StreamDefinition {
    StreamDefinition { kafka: of(own), ..thalweg_kit::definitions::stream("s", &[]) }
}

#[test]
fn a_member_is_named_for_its_group_its_stream_and_its_address() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let check = |id: Option<&str>, instance: Option<&str>, own: Pairs<'_>, expect: Pairs<'_>| {
        let config = SpeedConfig {
            assignment: Assignment::Group {
                id: id.map(str::to_owned),
                instance: instance.map(str::to_owned),
                advertise: "here:9200".into(),
            },
            ..SpeedConfig::default()
        };
        let all = member_properties(&stream(own), &config).unwrap();
        for (key, value) in expect {
            assert_eq!(all.get(*key).map_or("", String::as_str), *value, "{key}");
        }
    };
    let names = [
        ("group.id", "thalweg-s"),
        ("client.id", "thalweg-speed@here:9200"),
        ("group.instance.id", ""),
        ("enable.auto.commit", "false"),
        ("session.timeout.ms", "6000"),
    ];
    check(None, None, &[], &names);
    check(Some("a"), Some("w1"), &[], &[("group.id", "a-s"), ("group.instance.id", "w1-s")]);
    let own = [("session.timeout.ms", "9000"), ("client.id", "x")];
    let kept = [("group.id", "a-s"), ("session.timeout.ms", "9000"), names[1]];
    check(Some("a"), None, &own, &kept);
}

#[test]
fn found_partitions_are_taken_by_range() {
    let check = |assignment: &Assignment, expect: &[i32]| {
        let got = assignment.at_start((0..4).map(Partition));
        let got: Vec<i32> = got.iter().map(|p| p.0).collect();
        assert_eq!(got, expect, "{assignment:?}");
    };
    check(&Assignment::All, &[0, 1, 2, 3]);
    let range = [1, 2, 9].map(Partition).into();
    check(&Assignment::Static(range), &[1, 2]);
    let group = Assignment::Group { id: None, instance: None, advertise: "a:1".into() };
    check(&group, &[]);
}

#[test]
fn the_stream_wins_over_its_connection_and_the_promise_over_both() {
    let default = [("bootstrap.servers", "a"), ("fetch.wait.max.ms", "7"), ("isolation.level", "read_uncommitted")];
    let mut config = config(&default, 1);
    config.kafka.named.insert("eu".to_owned(), of(&[("bootstrap.servers", "b")]));
    let mut stream = stream(&[("client.id", "me")]);
    let all = kafka_properties(&stream, &config).unwrap();
    for (key, value) in [
        ("bootstrap.servers", "a"),
        ("fetch.wait.max.ms", "7"),
        ("client.id", "me"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("group.id", "thalweg-s"),
    ] {
        assert_eq!(all[key], value, "{key}");
    }
    // A named connection inherits nothing.
    stream.connection = Some("eu".to_owned());
    let all = kafka_properties(&stream, &config).unwrap();
    assert_eq!((all["bootstrap.servers"].as_str(), all["fetch.wait.max.ms"].as_str()), ("b", "100"));
}

#[test]
fn what_the_promise_fixes_is_refused_wherever_it_is_given() {
    for (property, _) in FIXED {
        assert!(kafka_options::set_by_platform(property).is_some(), "{property}");
    }
    let all = member_properties(&stream(&[]), &config(&[], 1)).unwrap();
    assert_eq!(all["group.id"], "thalweg-s");
}

#[test]
fn no_value_of_a_connection_is_shown() {
    let mut config = config(&[("sasl.password", "hunter2")], 1);
    config.kafka.named.insert("eu".to_owned(), of(&[("sasl.password", "hunter2")]));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && shown.contains("sasl.password") && shown.contains("eu"), "{shown}");
}

#[test]
fn what_is_fetched_ahead_follows_from_the_budget() {
    let check = |common: &[(&str, &str)], own: &[(&str, &str)], budget, kib: &str, fetch| {
        let (config, stream) = (config(common, budget), stream(own));
        let all = kafka_properties(&stream, &config).unwrap();
        assert_eq!(all[QUEUE], kib);
        assert_eq!(queue_of(&config, &stream), kib.parse::<usize>().unwrap() << 10);
        assert_eq!(all.get("fetch.max.bytes").map(String::as_str), fetch);
    };
    check(&[], &[], 1 << 30, "32768", Some("33554432"));
    check(&[], &[], 16 << 20, "1024", Some("1048576"));
    check(&[], &[], 2 << 20, "128", Some("1048576"));
    check(&[(QUEUE, "7")], &[], 1 << 30, "7", Some("33554432"));
    check(&[(QUEUE, "7")], &[(QUEUE, "9")], 1 << 30, "9", Some("33554432"));
    check(&[], &[(LONGEST_MESSAGE, "5000000")], 1 << 20, "128", None);
}
