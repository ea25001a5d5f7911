//! Where a client stands in the changes of a view, as a text that the client keeps: `<view id>@0:5,1:7`.
//!
//! Invariant: a token is exact. Whoever holds it has the rows of that view at that frontier, and nothing above it.

use std::fmt;
use std::str::FromStr;

use thalweg_schemas::{Frontier, Offset, Partition};

use crate::Error;

/// The longest token that is read: 10,000 partitions with offsets of 19 digits.
const LONGEST: usize = 256 << 10;

/// A view and a frontier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResumeToken {
    pub(crate) view_id: String,
    pub(crate) frontier: Frontier,
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.view_id)?;
        for (i, (partition, offset)) in self.frontier.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{partition}:{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for ResumeToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            let shown: String = text.chars().take(40).collect();
            Error::ReadRequest {
                reason: format!(
                    "`{shown}` is no token of changes; send the last `id` as it came, or none to begin with all rows"
                ),
            }
        };
        let (view_id, rest) = text.split_once('@').filter(|_| text.len() <= LONGEST).ok_or_else(bad)?;
        if view_id.is_empty() || !view_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(bad());
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut frontier = Frontier::new();
        for pair in rest.split(',').filter(|_| !rest.is_empty()) {
            let (partition, offset) = pair
                .split_once(':')
                .filter(|(partition, offset)| digits(partition) && digits(offset))
                .ok_or_else(bad)?;
            let partition = Partition(partition.parse().map_err(|_| bad())?);
            if frontier.named(partition).is_some() {
                return Err(bad());
            }
            frontier.set(partition, Offset(offset.parse().map_err(|_| bad())?));
        }
        Ok(Self { view_id: view_id.to_owned(), frontier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let check = |text: &str, frontier: &[(i32, i64)]| {
            let token: ResumeToken = text.parse().unwrap();
            let frontier = frontier.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect();
            assert_eq!(token, ResumeToken { view_id: "ab12".into(), frontier });
            assert_eq!(token.to_string(), text);
        };
        check("ab12@", &[]);
        check("ab12@0:5", &[(0, 5)]);
        check("ab12@0:5,1:7,10:9223372036854775807", &[(0, 5), (1, 7), (10, i64::MAX)]);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "@",
            "ab12",
            "@0:5",
            "ab12@0",
            "ab12@0:",
            "ab12@:5",
            "ab12@0:5,",
            "ab12@0:5,,1:7",
            "ab12@0:-5",
            "ab12@0:+5",
            "ab12@-1:5",
            "ab12@0:5;1:7",
            "ab12@0:5,0:6",
            "ab12@0:9223372036854775808",
            "ab12@2147483648:1",
            "ab 12@0:5",
            "ab12@@0:5",
            "é@0:5",
        ] {
            assert!(text.parse::<ResumeToken>().is_err(), "{text}");
        }
        assert!(format!("ab12@{}", "0:5,".repeat(100_000)).parse::<ResumeToken>().is_err());
    }
}
