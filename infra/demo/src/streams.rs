//! The three streams: their definitions in SQL, and the content of their messages.
//!
//! ```text
//!  (seed, stream, position) ─▶ fate: as usual, late, a duplicate, malformed ─▶ event ─▶ key and payload
//! ```
//!
//! Invariant: a message depends on seed, faults, stream, position and the time of the position alone.

mod chance;
mod fate;
mod logins;
mod sensors;
mod stocks;
mod time;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use self::chance::Dice;
pub use self::fate::{Fate, Faults};
pub use self::time::{EventClock, TimeSource};

/// A stream of the demo; its topic has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DemoStream {
    SensorData,
    LoginAttempts,
    StockPrices,
}

impl DemoStream {
    pub const ALL: [DemoStream; 3] = [DemoStream::SensorData, DemoStream::LoginAttempts, DemoStream::StockPrices];

    pub fn name(self) -> &'static str {
        match self {
            DemoStream::SensorData => "sensor_data",
            DemoStream::LoginAttempts => "login_attempts",
            DemoStream::StockPrices => "stock_prices",
        }
    }

    /// The SQL definitions of the stream and its views.
    pub fn definitions(self) -> &'static str {
        match self {
            DemoStream::SensorData => include_str!("../../../schemas/demo/sensor_data.sql"),
            DemoStream::LoginAttempts => include_str!("../../../schemas/demo/login_attempts.sql"),
            DemoStream::StockPrices => include_str!("../../../schemas/demo/stock_prices.sql"),
        }
    }

    /// The stream's share of all messages, in tenths. With [`DemoStream::step`], event time passes equally fast in
    /// all streams.
    pub fn share(self) -> u32 {
        match self {
            DemoStream::SensorData => 5,
            DemoStream::LoginAttempts => 2,
            DemoStream::StockPrices => 3,
        }
    }

    /// Event time from one message to the next if messages drive the time, in milliseconds.
    fn step(self) -> i64 {
        300 / i64::from(self.share())
    }
}

impl fmt::Display for DemoStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DemoStream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|s| s.name() == text.trim());
        found.ok_or_else(|| {
            let names = Self::ALL.map(DemoStream::name).join(", ");
            format!("`{text}` is not one of the demo's streams: {names}")
        })
    }
}

/// The message of one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub fate: Fate,
    /// False if the message cannot be decoded.
    pub is_row: bool,
    pub key: String,
    pub payload: Vec<u8>,
}

/// An event before serialization.
struct Event {
    key: String,
    payload: Vec<u8>,
}

impl Event {
    fn of(key: &str, fields: &impl Serialize) -> Self {
        Self { key: key.to_owned(), payload: serde_json::to_vec(fields).expect("fields are strings and numbers") }
    }
}

/// All messages of one stream.
#[derive(Debug, Clone)]
pub struct Script {
    stream: DemoStream,
    seed: u64,
    faults: Faults,
}

impl Script {
    pub fn new(stream: DemoStream, seed: u64, faults: Faults) -> Self {
        Self { stream, seed, faults }
    }

    /// The message at `position`, the one after the last or that one again; `now` is the wall clock's, in milliseconds.
    pub fn message(&self, position: u64, clock: &mut EventClock, now: i64) -> Message {
        let time = clock.read(position, now);
        match self.fate(position) {
            fate @ Fate::Duplicate { of } => match clock.known(of) {
                Some(time) => Message { fate, ..self.original(of, self.fate(of), time) },
                // An earlier run sent the original.
                None => self.original(position, Fate::Usual, time),
            },
            fate => self.original(position, fate, time),
        }
    }

    fn fate(&self, position: u64) -> Fate {
        self.faults.fate(&mut self.dice("fate", position), position)
    }

    /// The message without duplication. The position of a duplicate has an original message too, which another
    /// duplicate may repeat.
    fn original(&self, position: u64, fate: Fate, time: i64) -> Message {
        let mut dice = self.dice("event", position);
        let ts = time - fate::delay(&mut dice, fate);
        let event = match self.stream {
            DemoStream::SensorData => sensors::event(self.seed, &mut dice, ts),
            DemoStream::LoginAttempts => logins::event(self.seed, &mut dice, ts),
            DemoStream::StockPrices => stocks::event(self.seed, &mut dice, ts),
        };
        let is_row = fate != Fate::Malformed;
        Message {
            fate,
            is_row,
            payload: if is_row { event.payload } else { fate::mangle(&mut dice, event.payload) },
            key: event.key,
        }
    }

    fn dice(&self, what: &str, position: u64) -> Dice {
        Dice::new(self.seed, &[self.stream.name(), what], position)
    }
}

/// A time as text.
fn iso(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
