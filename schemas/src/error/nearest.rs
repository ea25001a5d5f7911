//! The known word closest to a mistyped word, for "did you mean".
//!
//! Invariant: no suggestion is further away than a typing mistake: half of the word's characters, and at most 3 edits.

/// The word of `known` closest to `word`, if it is close enough. Upper and lower case are equal.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 2).min(3);
    known
        .into_iter()
        .map(|known| (distance(&word, &known.to_lowercase()), known))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, known)| known)
}

/// The Levenshtein distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replace = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expect: Option<&str>) {
        let known = ["device", "temperature", "ts", "http_addr", "epoch_bytes"];
        assert_eq!(nearest(word, known), expect, "{word}");
    }

    #[test]
    fn typing_mistakes_are_recognised() {
        check("divice", Some("device"));
        check("temprature", Some("temperature"));
        check("http_adr", Some("http_addr"));
        check("Device", Some("device"));
        check("epoch_bits", Some("epoch_bytes"));
    }

    #[test]
    fn other_words_are_not() {
        check("pressure", None);
        check("a", None);
        check("xy", None);
        check("", None);
    }
}
