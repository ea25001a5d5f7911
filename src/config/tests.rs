//! The layers of settings: their precedence, and the messages of refused settings.

use super::*;

fn layer(name: &str, toml: &str) -> (String, Table) {
    (name.to_owned(), toml.parse().unwrap())
}

fn file(toml: &str) -> Result<Settings> {
    resolve(vec![layer("the settings file x.toml", toml)])
}

#[track_caller]
fn refused(toml: &str, part: &str) {
    let error = file(toml).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
    assert!(error.starts_with("the settings file x.toml: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn the_defaults_are_complete() {
    let settings = resolve(vec![]).unwrap();
    assert_eq!(settings.epoch_bytes, 256 << 20);
    assert_eq!(settings.epoch_interval, Duration::from_secs(60));
    assert!(settings.batch_threads >= 1);
    assert_eq!(settings.spill_dir(), Path::new("thalweg-data/spill"));
    assert!(settings.kafka.is_empty());
}

#[test]
fn later_layers_win() {
    let env = environment(
        [
            ("THALWEG_EPOCH_BYTES", "2MiB"),
            ("THALWEG_GRACE", "2s"),
            ("THALWEG_MICRO_BATCH_ROWS", "12"),
            ("THALWEG_KAFKA_SASL_PASSWORD", "secret"),
            ("THALWEG_STORAGE_AWS_ENDPOINT", "http://x"),
            ("THALWEG_URL", "not a setting"),
            ("HOME", "/"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into_iter(),
    )
    .unwrap();
    let settings = resolve(vec![
        layer(
            "file",
            "epoch_bytes = '1MiB'\ngrace = '1s'\nmark_interval = '1s'\n[kafka]\nbootstrap.servers = 'a'\nlinger.ms = 5",
        ),
        ("environment".to_owned(), env),
        layer("flags", "epoch_bytes = '3MiB'\n[kafka]\n'bootstrap.servers' = 'b'"),
    ])
    .unwrap();
    assert_eq!(settings.epoch_bytes, 3 << 20);
    assert_eq!(settings.grace, Duration::from_secs(2));
    assert_eq!(settings.mark_interval, Duration::from_secs(1));
    assert_eq!(settings.micro_batch_rows, 12);
    let kafka: Vec<_> = settings.kafka.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(kafka, ["bootstrap.servers=b", "linger.ms=5", "sasl.password=secret"]);
    assert_eq!(settings.storage["aws_endpoint"], "http://x");
}

#[test]
fn bad_values_are_refused() {
    refused("epoch_byte = '1MiB'", "did you mean `epoch_bytes`");
    refused("http_adr = 'x'", "did you mean `http_addr`");
    refused("epoch_bites = '1MiB'", "did you mean `epoch_bytes`");
    refused("colour = 'red'", "`colour` is not a setting");
    refused("epoch_bytes = '1 potato'", "write 64MiB");
    refused("epoch_bytes = 0", "above zero");
    refused("grace = 'soon'", "write 250ms");
    refused("grace = '0s'", "above zero");
    refused("http_addr = 'here'", "http_addr");
    refused("log_format = 'xml'", "log_format");
    refused("micro_batch_rows = -1", "whole number");
    refused("max_queries = 0", "above zero");
    refused("kafka = 'localhost'", "kafka");
    refused("[kafka]\n'x' = [1]", "`x` must be a string or a number");
}

#[test]
fn sizes_and_durations_are_humane() {
    for (text, bytes) in [("64MiB", 64 << 20), ("64 MB", 64_000_000), ("4096", 4096), ("1.5KiB", 1536)] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for (text, ms) in [("250ms", 250), ("1m 30s", 90_000), ("2h", 7_200_000)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
}

#[test]
fn an_unreadable_file_is_not_repeated() {
    let text = "grace = '1s'\n[kafka]\nsasl.password = hunter2\n";
    let error = text.parse::<Table>().unwrap_err();
    let said = unread(text, &error);
    assert!(said.starts_with("line 3: ") && !said.contains("hunter2"), "{said}");
}
