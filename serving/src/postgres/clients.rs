//! The clients of a door, and requests to cancel what one of them runs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The clients by their number.
#[derive(Debug, Default)]
pub(super) struct Clients {
    known: Mutex<HashMap<i32, Arc<Interrupt>>>,
}

/// What a client runs.
#[derive(Debug)]
pub(super) struct Interrupt {
    pub(super) number: i32,
    /// Whoever knows it may cancel.
    pub(super) secret: i32,
    running: Mutex<Option<CancellationToken>>,
}

impl Interrupt {
    /// Begins to run something, which the token ends.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.running.lock() = Some(token.clone());
        token
    }

    /// Nothing is running; requests to cancel come too late.
    pub(super) fn end(&self) {
        *self.running.lock() = None;
    }
}

/// A client in the list, until dropped.
#[derive(Debug)]
pub(super) struct Listed {
    clients: Arc<Clients>,
    pub(super) interrupt: Arc<Interrupt>,
}

impl Clients {
    /// Lists a client under the number of its session.
    pub(super) fn add(self: &Arc<Self>, number: i32) -> Listed {
        let secret = i32::from_be_bytes(*Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 4]));
        let interrupt = Arc::new(Interrupt { number, secret, running: Mutex::default() });
        self.known.lock().insert(number, Arc::clone(&interrupt));
        Listed { clients: Arc::clone(self), interrupt }
    }

    /// Ends what the client `number` runs, if the secret is right.
    pub(super) fn cancel(&self, number: i32, secret: i32) {
        let found = self.known.lock().get(&number).cloned();
        let found = found.filter(|client| client.secret == secret);
        if let Some(token) = found.and_then(|client| client.running.lock().clone()) {
            token.cancel();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.known.lock().remove(&self.interrupt.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_cancels_and_only_what_runs() {
        let clients = Arc::new(Clients::default());
        let (first, second) = (clients.add(1), clients.add(2));
        let (number, secret) = (first.interrupt.number, first.interrupt.secret);
        clients.cancel(number, secret);
        let token = first.interrupt.begin();
        let other = second.interrupt.begin();
        clients.cancel(number, secret.wrapping_add(1));
        clients.cancel(second.interrupt.number + 7, secret);
        assert!(!token.is_cancelled() && !other.is_cancelled());
        clients.cancel(number, secret);
        assert!(token.is_cancelled() && !other.is_cancelled());
        first.interrupt.end();
        drop(first);
        clients.cancel(number, secret);
        assert_eq!(clients.known.lock().len(), 1);
    }
}
