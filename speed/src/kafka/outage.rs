//! Whether the brokers are away, for the log: librdkafka reports each failed request, many times a second.
//!
//! Invariant: one outage is said once when it begins and once when it is over.

use std::time::{Duration, Instant};

/// The time without a further error after which an outage is over.
const CALM: Duration = Duration::from_secs(5);

/// The current outage.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<OutageSpan>);

#[derive(Debug, Clone, Copy)]
struct OutageSpan {
    began: Instant,
    /// The last error.
    last: Instant,
}

impl Outage {
    /// Counts an error. Returns true if an outage begins with it.
    pub(super) fn fails(&mut self, now: Instant) -> bool {
        let begins = self.0.is_none();
        self.0 = Some(OutageSpan { began: self.0.map_or(now, |span| span.began), last: now });
        begins
    }

    /// Returns how long the outage lasted if it is over: a broker is connected, and the last error was a while ago.
    pub(super) fn ends(&mut self, now: Instant, connected: bool) -> Option<Duration> {
        let over = self.0.take_if(|span| connected && now.saturating_duration_since(span.last) >= CALM)?;
        Some(over.last.saturating_duration_since(over.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_twice() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert_eq!(outage.ends(at(0), true), None);
        assert!(outage.fails(at(1)));
        for second in 1..7 {
            assert!(!outage.fails(at(second)));
            assert_eq!(outage.ends(at(second), true), None);
        }
        assert_eq!(outage.ends(at(60), false), None, "nobody is connected");
        assert_eq!(outage.ends(at(10), true), None, "the last error is 4 s old");
        assert_eq!(outage.ends(at(11), true), Some(Duration::from_secs(5)));
        assert_eq!(outage.ends(at(12), true), None);
        assert!(outage.fails(at(13)), "another one");
    }
}
