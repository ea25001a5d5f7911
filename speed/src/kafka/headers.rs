//! Headers of messages, as any producer writes them.
//!
//! rdkafka panics for a name that is not UTF-8. The panic is caught here, and the process's panic hook leaves it out of
//! the log: a producer could write one such line for each of its messages. Invariant: a panic is expected only while
//! rdkafka reads a header.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message};
use thalweg_schemas::decode::Messages;

/// Shown in place of a header's name that is not UTF-8. Its value is lost.
const NO_NAME: &str = "\u{fffd}";

thread_local! {
    static READS_A_HEADER: Cell<bool> = const { Cell::new(false) };
}

/// True if a panic of this thread is expected at the moment, so that a panic hook need not tell of it.
pub fn expects_panic() -> bool {
    READS_A_HEADER.get()
}

/// Adds the headers of the message that was added last.
pub(super) fn add_headers(message: &BorrowedMessage<'_>, messages: &mut Messages) {
    let Some(headers) = message.headers() else { return };
    for at in 0..headers.count() {
        match expecting_panic(|| headers.get(at)) {
            Some(header) => messages.add_header(header.key, header.value),
            None => messages.add_header(NO_NAME, None),
        }
    }
}

/// Runs `read`; `None` if it panics.
fn expecting_panic<T>(read: impl FnOnce() -> T) -> Option<T> {
    READS_A_HEADER.set(true);
    let done = catch_unwind(AssertUnwindSafe(read));
    READS_A_HEADER.set(false);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_expected_only_while_a_header_is_read() {
        assert!(!expects_panic());
        assert_eq!(expecting_panic(expects_panic), Some(true));
        assert!(!expects_panic());
        assert_eq!(expecting_panic(|| panic!("a header that is not UTF-8")), None::<()>);
        assert!(!expects_panic());
    }
}
