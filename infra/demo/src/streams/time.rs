//! The time of events: the wall clock's, or one that the messages drive.
//!
//! A demo that follows the clock begins an hour ago and catches up within a minute, so that views over minutes and
//! hours have something to show; from then on "the last five minutes" are the last five minutes. Time that messages
//! drive is the same in every run.
//!
//! Invariant: the time of a position, once read, stays the same while a duplicate may repeat the position's message.

use std::collections::VecDeque;
use std::str::FromStr;

use super::DemoStream;
use super::fate::DUPLICATE_WITHIN;

/// Event time of position 0 if messages drive the time: 2026-01-01T00:00:00Z, in milliseconds.
const START: i64 = 1_767_225_600_000;
/// How far back a demo that follows the clock begins, in milliseconds.
const HISTORY: i64 = 3_600_000;
/// Seconds until it has caught up.
const CATCH_UP: f64 = 60.0;

/// What drives the time of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeSource {
    #[default]
    Clock,
    Messages,
}

impl FromStr for TimeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "clock" => Ok(Self::Clock),
            "messages" => Ok(Self::Messages),
            other => Err(format!("`{other}` does not drive the time; write clock or messages")),
        }
    }
}

/// The times of one stream's positions.
#[derive(Debug, Clone)]
pub struct EventClock {
    source: TimeSource,
    /// Event time from one message to the next while it does not follow the clock, in milliseconds.
    step: f64,
    /// The first position of this run.
    first: u64,
    /// The time of the first position.
    begin: Option<i64>,
    /// The times of the newest positions.
    times: VecDeque<i64>,
    /// The position of the oldest of `times`.
    oldest: u64,
}

impl EventClock {
    /// A clock for the positions from `first` on, `rate` of them in a second; `None` is as fast as possible.
    pub fn new(source: TimeSource, stream: DemoStream, rate: Option<f64>, first: u64) -> Self {
        let step = match (source, rate) {
            (TimeSource::Clock, Some(rate)) => HISTORY as f64 / (CATCH_UP * rate),
            _ => stream.step() as f64,
        };
        Self { source, step, first, begin: None, times: VecDeque::new(), oldest: first }
    }

    /// The time of `position`, the one after the last that was read, or that one again. `now` is the wall clock's.
    pub(crate) fn read(&mut self, position: u64, now: i64) -> i64 {
        if let Some(known) = self.known(position) {
            return known;
        }
        let time = match self.source {
            TimeSource::Messages => START + (position as f64 * self.step) as i64,
            TimeSource::Clock => {
                let history = if self.first == 0 { HISTORY } else { 0 };
                let begin = *self.begin.get_or_insert(now - history);
                now.min(begin + ((position - self.first) as f64 * self.step) as i64)
            }
        };
        self.times.push_back(time);
        if self.times.len() as u64 > DUPLICATE_WITHIN + 1 {
            self.times.pop_front();
            self.oldest += 1;
        }
        time
    }

    /// The time of `position` if a duplicate may still repeat the position's message.
    pub(super) fn known(&self, position: u64) -> Option<i64> {
        let at = usize::try_from(position.checked_sub(self.oldest)?).ok()?;
        self.times.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn an_hour_is_caught_up_in_a_minute_and_then_the_clock_is_followed() {
        for rate in [0.5, 10.0, 1_000.0] {
            let mut clock = EventClock::new(TimeSource::Clock, DemoStream::SensorData, Some(rate), 0);
            let mut behind = Vec::new();
            for position in 0..(rate * 100.0) as u64 {
                let now = NOW + (position as f64 / rate * 1e3) as i64;
                behind.push(now - clock.read(position, now));
            }
            assert_eq!(behind[0], HISTORY, "{rate}");
            assert!(behind.windows(2).all(|pair| pair[1] <= pair[0]), "{rate}: time does not fall back");
            let after = |seconds: f64| behind[(rate * seconds) as usize];
            assert!(after(30.0) > HISTORY / 3 && after(70.0) == 0, "{rate}: {} {}", after(30.0), after(70.0));
        }
    }

    #[test]
    fn a_second_run_begins_now() {
        let mut clock = EventClock::new(TimeSource::Clock, DemoStream::StockPrices, Some(10.0), 7_000);
        assert_eq!(clock.read(7_000, NOW), NOW);
        assert_eq!(clock.read(7_001, NOW + 90), NOW + 90);
        assert_eq!(clock.read(7_001, NOW + 500), NOW + 90, "a time that was read stays");
        assert_eq!(clock.known(6_999), None);
    }

    #[test]
    fn messages_drive_the_same_time_in_every_run() {
        let of = |first: u64| {
            let mut clock = EventClock::new(TimeSource::Messages, DemoStream::SensorData, Some(1.0), first);
            clock.read(first, NOW + first as i64)
        };
        assert_eq!(of(0), START);
        assert_eq!(of(1_000), START + 60_000);
    }

    #[test]
    fn only_what_a_duplicate_may_repeat_is_kept() {
        let mut clock = EventClock::new(TimeSource::Messages, DemoStream::SensorData, None, 0);
        let times: Vec<i64> = (0..3_000).map(|position| clock.read(position, NOW)).collect();
        for back in 0..=DUPLICATE_WITHIN {
            assert_eq!(clock.known(2_999 - back), Some(times[2_999 - back as usize]));
        }
        assert_eq!(clock.known(2_998 - DUPLICATE_WITHIN), None);
    }
}
