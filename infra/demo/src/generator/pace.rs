//! The number of messages that are due.
//!
//! Invariant: in any second at most the rate's number of messages plus the number of a tenth of a second are due. A
//! backlog is never sent in a burst.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Largest backlog, in seconds of the rate.
const CREDIT: f64 = 0.1;

/// Messages per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    PerSecond(f64),
    /// As fast as Kafka accepts messages.
    Unlimited,
}

impl Rate {
    /// Messages per second; `None` if there is no limit.
    pub(super) fn per_second(self) -> Option<f64> {
        match self {
            Rate::PerSecond(rate) => Some(rate),
            Rate::Unlimited => None,
        }
    }

    /// `share` of `shares` of this rate.
    pub fn part(self, share: u32, shares: u32) -> Self {
        match self {
            Rate::PerSecond(rate) => Rate::PerSecond(rate * f64::from(share) / f64::from(shares.max(1))),
            Rate::Unlimited => Rate::Unlimited,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::PerSecond(rate) => write!(f, "{rate}/s"),
            Rate::Unlimited => f.write_str("max"),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text == "max" {
            return Ok(Rate::Unlimited);
        }
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m" | "min")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => (text, 1.0),
        };
        let (number, times) = match number.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1000.0),
            None => (number, 1.0),
        };
        match number.trim().parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate * times / seconds)),
            _ => Err(format!("`{text}` is not a rate; write 2000/s, 50k/s, 30/m or max")),
        }
    }
}

/// Counts due messages.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// Start of the count; moves on when messages could not be sent in time.
    began: Duration,
    sent: u64,
}

impl Pace {
    /// `now` is the time of any clock that does not go back.
    pub(super) fn new(rate: Rate, now: Duration) -> Self {
        Self { rate, began: now, sent: 0 }
    }

    /// The number of messages that may be sent now.
    pub(super) fn due(&mut self, now: Duration) -> u64 {
        let Rate::PerSecond(rate) = self.rate else {
            return u64::MAX;
        };
        let owed = rate * now.saturating_sub(self.began).as_secs_f64() - self.sent as f64;
        let most = (rate * CREDIT).max(1.0);
        if owed > most {
            self.began = now - Duration::from_secs_f64(most / rate).min(now);
            self.sent = 0;
        }
        owed.clamp(0.0, most) as u64
    }

    pub(super) fn sent(&mut self, count: u64) {
        self.sent += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let check = |text: &str, expect: Option<f64>| {
            let rate = text.parse::<Rate>().ok();
            assert_eq!(rate, expect.map(Rate::PerSecond), "{text}");
        };
        check("2000/s", Some(2000.0));
        check("2000", Some(2000.0));
        check(" 50k/s ", Some(50_000.0));
        check("30/m", Some(0.5));
        check("7200/h", Some(2.0));
        check("0.5/s", Some(0.5));
        for wrong in ["", "0", "-1/s", "fast", "10/day", "inf", "NaN", "/s", "k"] {
            check(wrong, None);
        }
        assert_eq!("max".parse(), Ok(Rate::Unlimited));
    }

    #[test]
    fn the_rate_is_kept() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(Rate::PerSecond(1000.0), ms(5_000));
        let mut total = 0;
        for step in 0..=100 {
            let due = pace.due(ms(5_000 + step * 10));
            pace.sent(due);
            total += due;
        }
        assert_eq!(total, 1000);
    }

    #[test]
    fn lost_time_is_not_made_up_for() {
        let mut pace = Pace::new(Rate::PerSecond(1000.0), Duration::ZERO);
        assert_eq!(pace.due(Duration::from_secs(60)), 100);
        pace.sent(100);
        assert_eq!(pace.due(Duration::from_secs(60)), 0);
        assert_eq!(pace.due(Duration::from_millis(60_010)), 10);
    }

    #[test]
    fn slow_rates_come_one_by_one() {
        let mut pace = Pace::new(Rate::PerSecond(0.5), Duration::ZERO);
        assert_eq!(pace.due(Duration::from_millis(1_999)), 0);
        assert_eq!(pace.due(Duration::from_secs(2)), 1);
        pace.sent(1);
        assert_eq!(pace.due(Duration::from_secs(3)), 0);
        assert_eq!(pace.due(Duration::from_secs(4)), 1);
    }

    #[test]
    fn parts_add_up() {
        let rate = Rate::PerSecond(100.0);
        assert_eq!(rate.part(2, 10), Rate::PerSecond(20.0));
        assert_eq!(Rate::Unlimited.part(2, 10), Rate::Unlimited);
    }
}
