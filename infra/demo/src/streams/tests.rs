//! Messages are the same for the same seed, have the configured share of faults, and contain the events that views
//! look for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

const SURE: Faults = Faults { late: 0.0, duplicates: 0.0, malformed: 0.0 };

fn messages(stream: DemoStream, faults: Faults, count: u64) -> Vec<Message> {
    of(&Script::new(stream, 7, faults), count)
}

/// The first messages of a script, in time that they drive.
fn of(script: &Script, count: u64) -> Vec<Message> {
    let mut clock = EventClock::new(TimeSource::Messages, script.stream, None, 0);
    (0..count).map(|position| script.message(position, &mut clock, 0)).collect()
}

fn rows(stream: DemoStream, count: u64) -> Vec<Value> {
    messages(stream, SURE, count).iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    for stream in DemoStream::ALL {
        let sent = |seed| of(&Script::new(stream, seed, Faults::default()), 500);
        assert_eq!(sent(1), sent(1), "{stream}");
        assert_ne!(sent(1), sent(2), "{stream}");
    }
}

#[test]
fn faults_have_the_configured_shares() {
    let faults = Faults { late: 0.2, duplicates: 0.1, malformed: 0.05 };
    for stream in DemoStream::ALL {
        let sent = messages(stream, faults, 20_000);
        let share =
            |wanted: fn(&Fate) -> bool| sent.iter().filter(|m| wanted(&m.fate)).count() as f64 / sent.len() as f64;
        let near = |got: f64, asked: f64| (got - asked).abs() < 0.02;
        assert!(near(share(|f| *f == Fate::Late), faults.late), "{stream}");
        assert!(near(share(|f| *f == Fate::Malformed), faults.malformed), "{stream}");
        let twice = share(|f| matches!(f, Fate::Duplicate { .. }));
        assert!(near(twice, faults.duplicates), "{stream}");
    }
}

#[test]
fn a_duplicate_repeats_an_earlier_message() {
    let sent = messages(DemoStream::SensorData, Faults::default(), 20_000);
    let mut seen = 0;
    for (position, message) in sent.iter().enumerate() {
        if let Fate::Duplicate { of } = message.fate
            && !matches!(sent[of as usize].fate, Fate::Duplicate { .. })
        {
            assert!((of as usize) < position);
            assert_eq!(message.payload, sent[of as usize].payload);
            assert_eq!(message.is_row, sent[of as usize].is_row);
            seen += 1;
        }
    }
    assert!(seen > 100);
}

#[test]
fn malformed_messages_cannot_be_decoded() {
    let all = Faults { malformed: 1.0, ..SURE };
    for stream in DemoStream::ALL {
        for message in messages(stream, all, 1_000) {
            assert!(!message.is_row);
            let text = String::from_utf8(message.payload).unwrap();
            let broken = serde_json::from_str::<Value>(&text).is_err();
            assert!(broken || text.contains("yesterday"), "{text}");
        }
    }
}

#[test]
fn time_passes_alike_in_all_streams_and_neighbours_are_out_of_order() {
    for stream in DemoStream::ALL {
        // For every tenth of all messages, a tenth of the messages of one minute.
        let minute = 200 * u64::from(stream.share());
        let rows = rows(stream, minute + 1);
        let times: Vec<&str> = rows.iter().map(|r| r["ts"].as_str().unwrap()).collect();
        assert!(times[0].starts_with("2025-12-31T23:59:5") || times[0] == "2026-01-01T00:00:00.000Z");
        assert!(times[minute as usize].starts_with("2026-01-01T00:00:5"), "{stream}");
        assert!(times.windows(2).any(|pair| pair[0] > pair[1]), "{stream}");
    }
}

#[test]
fn machines_overheat_and_get_stuck() {
    let mut hot = BTreeSet::new();
    let mut said: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for row in rows(DemoStream::SensorData, 120_000) {
        let device = row["device"].as_str().unwrap().to_owned();
        let temperature = row["temperature"].as_f64().unwrap();
        assert!((-10.0..125.0).contains(&temperature), "{row}");
        if temperature > 100.0 {
            hot.insert(device.clone());
        }
        // The time in ten-minute bins, like the view of stuck sensors.
        let when = row["ts"].as_str().unwrap()[..15].to_owned();
        said.entry((device, when)).or_default().insert(temperature.to_string());
    }
    let stuck = said.values().filter(|values| values.len() == 1).count();
    assert!((1..20).contains(&hot.len()), "{hot:?}");
    assert!((1..100).contains(&stuck), "{stuck} of {}", said.len());
}

#[test]
fn attackers_fail_and_people_do_not() {
    let mut failures: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for row in rows(DemoStream::LoginAttempts, 40_000) {
        let entry = failures.entry(row["address"].as_str().unwrap().to_owned()).or_default();
        entry.0 += 1;
        entry.1 += u32::from(!row["success"].as_bool().unwrap());
    }
    let attackers: Vec<_> = failures.iter().filter(|(_, (_, failed))| *failed >= 100).collect();
    assert!(attackers.len() > 2);
    for (address, (tries, failed)) in attackers {
        assert!(address.starts_with("203.0.113."), "{address}");
        assert!(f64::from(*failed) > 0.95 * f64::from(*tries));
    }
}

#[test]
fn prices_move_by_little_and_in_hundredths() {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    for row in rows(DemoStream::StockPrices, 50_000) {
        let price = row["price"].as_f64().unwrap();
        assert!(row["price"].to_string().split_once('.').unwrap().1.len() <= 2, "{row}");
        let before = last.insert(row["symbol"].as_str().unwrap().to_owned(), price);
        let moved = before.map_or(0.0, |before| (price / before - 1.0).abs());
        assert!(moved < 0.02, "{moved} of {row}");
        assert!((1..=401).contains(&row["volume"].as_u64().unwrap()));
    }
    assert_eq!(last.len(), 8);
}

#[test]
fn names_are_read_back() {
    for stream in DemoStream::ALL {
        assert_eq!(stream.name().parse(), Ok(stream));
        assert!(stream.definitions().contains(&format!("LOCATION '{stream}'")));
    }
    assert!("clicks".parse::<DemoStream>().unwrap_err().contains("stock_prices"));
}
