//! The length of a text, measured before it is read.
//!
//! The tokens and the parsed tree of a text take hundreds of times its bytes, and no pool counts that memory.
//! Invariant: the measure takes one pass and no memory. What looks like several words counts as several, also within a
//! string or a comment, so no quote hides anything.

use crate::{Error, Result};

/// The most words, numbers and signs of a text; four blanks count as one. A list of 100,000 numbers fits.
const TOKENS: u64 = 300_000;

/// Blanks that count as one token.
const BLANKS: u64 = 4;

/// Errors: [`Error::RefuseSize`].
pub(crate) fn refuse_long(sql: &str) -> Result<()> {
    let count = tokens(sql);
    match count > TOKENS {
        true => Err(Error::RefuseSize { what: "words and signs", count, limit: TOKENS }),
        false => Ok(()),
    }
}

fn tokens(sql: &str) -> u64 {
    let (mut tokens, mut blanks, mut in_word) = (0_u64, 0_u64, false);
    for byte in sql.bytes() {
        let of_word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        if byte.is_ascii_whitespace() {
            blanks += 1;
        } else if !(of_word && in_word) {
            tokens += 1;
        }
        in_word = of_word;
    }
    tokens + blanks / BLANKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_signs_and_blanks_are_counted() {
        let check = |sql: &str, expect| assert_eq!(tokens(sql), expect, "{sql}");
        check("", 0);
        check("SELECT", 1);
        check("SELECT 1", 2);
        check("SELECT a_1.b, 'x y'", 9);
        check("größe", 1);
        check("1,1,1,1", 7);
        check("        ", 2);
    }

    #[test]
    fn long_texts_are_refused_and_long_lists_are_not() {
        let check = |sql: &str, expect| assert_eq!(refuse_long(sql).is_ok(), expect, "{}", &sql[..20]);
        let list: Vec<String> = (0..100_000).map(|i| (i - 50_000).to_string()).collect();
        check(&format!("SELECT 7 IN ({})", list.join(", ")), true);
        check(&format!("SELECT 1 IN ({})", "1,".repeat(2_000_000)), false);
        check(&format!("SELECT 1 {}", " ".repeat(4_000_000)), false);
        check(&format!("SELECT '{}'", "x".repeat(4_000_000)), true);
    }
}
