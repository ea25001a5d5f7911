//! Contains a computation: a panic of the engine becomes an error of whoever asked for the computation.
//!
//! Invariant: a contained computation shares no state that a panic could leave half changed; all its inputs are
//! immutable or its own.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::Error;

/// Runs `work`, which computes `what`.
///
/// Errors: the errors of `work`; [`Error::Panicked`].
pub async fn contain<T, E: From<Error>>(what: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Err(Error::Panicked { what, message: message(&*panic) }.into()),
    }
}

/// The text of a panic, if it has one.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_work() {
        let fails = async |text: String| contain::<(), Error>("adding", async { panic!("{text}") }).await.unwrap_err();
        let error = fails("capacity overflow".to_owned()).await;
        assert_eq!(error.to_string(), "adding: the engine panicked: capacity overflow");
        assert_eq!(error.fault(), Fault::Engine);
        assert_eq!(contain::<_, Error>("adding", async { Ok(3) }).await.unwrap(), 3);
        let own = contain::<(), Error>("adding", async { Err(Error::Broken("x".into())) }).await;
        assert_eq!(own.unwrap_err().fault(), Fault::Bug);
    }
}
