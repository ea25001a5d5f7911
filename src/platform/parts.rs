//! The parts of a process, and how they end together.
//!
//! Invariant: a part that ends by itself ends the process; parts are ended in the order of the list.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::stopped::Stopped;
use super::supervise::supervise;

/// One long-lived part of the process.
pub(super) struct Part {
    name: &'static str,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Stopped>>,
}

impl Part {
    /// Starts `work`, which must end when cancelled and not before.
    pub(super) fn spawn<Work, E>(name: &'static str, work: impl FnOnce(CancellationToken) -> Work) -> Self
    where
        Work: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Stopped>,
    {
        Self::spawn_on(&Handle::current(), name, work)
    }

    /// As [`Part::spawn`], on the given threads.
    pub(super) fn spawn_on<Work, E>(
        threads: &Handle,
        name: &'static str,
        work: impl FnOnce(CancellationToken) -> Work,
    ) -> Self
    where
        Work: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Stopped>,
    {
        let cancel = CancellationToken::new();
        let task = threads.spawn(work(cancel.clone()).map(|end| end.map_err(Into::into)));
        Self { name, cancel, task }
    }

    /// Starts `work`, which never ends by itself, and drops it on cancellation.
    pub(super) fn endless(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::spawn(name, |end| async move {
            end.run_until_cancelled(work).await;
            Ok::<(), Stopped>(())
        })
    }

    /// Starts the future that `attempt` returns, and starts another one after a failure.
    pub(super) fn restarted<Attempt, E>(
        name: &'static str,
        mut attempt: impl FnMut(CancellationToken) -> Attempt + Send + 'static,
    ) -> Self
    where
        Attempt: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Stopped> + Send + 'static,
    {
        Self::spawn(name, move |cancel| async move {
            let (failure, _) = watch::channel(None);
            supervise(name, &cancel, &failure, || attempt(cancel.clone())).await
        })
    }

    /// Waits for the part's end; a panic counts as a bug.
    async fn ended(&mut self) -> Result<(), Stopped> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(panic) => Err(Stopped::broken(format!("{} panicked: {panic}", self.name))),
        }
    }
}

/// Where a process is reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub postgres: Option<SocketAddr>,
    pub flight_sql: Option<SocketAddr>,
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.http)?;
        if let Some(address) = self.postgres {
            write!(f, " postgres://{address}")?;
        }
        if let Some(address) = self.flight_sql {
            write!(f, " grpc://{address}")?;
        }
        Ok(())
    }
}

/// A running process: its addresses, and the other parts of its role.
pub struct Platform {
    pub(super) addresses: Addresses,
    /// The parts, in the order in which they are stopped.
    pub(super) parts: Vec<Part>,
    pub(super) shutdown_timeout: Duration,
}

impl Platform {
    /// Returns the address of HTTP.
    pub fn address(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Returns where the process is reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Runs until `stop` is ready or a part fails, then ends every part in order.
    ///
    /// Errors: the first part that failed, or that did not end in time.
    pub async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        let early = {
            let ends = self.parts.iter_mut().map(|part| part.ended().boxed());
            tokio::select! {
                () = stop => None,
                (end, index, _) = select_all(ends) => Some((index, end)),
            }
        };
        let mut outcome = match early {
            None => Ok(()),
            Some((index, end)) => {
                let part = self.parts.remove(index).name;
                Err(end.err().unwrap_or_else(|| Stopped::broken(format!("{part} ended without being asked to"))))
            }
        };
        match &outcome {
            Ok(()) => info!("shutting down"),
            Err(stopped) => error!(fault = ?stopped.fault, "{stopped}; shutting down"),
        }
        for part in &mut self.parts {
            part.cancel.cancel();
            let end = match tokio::time::timeout(self.shutdown_timeout, part.ended()).await {
                Ok(end) => end,
                Err(_) => {
                    part.task.abort();
                    Err(Stopped::late(part.name, self.shutdown_timeout))
                }
            };
            if let Err(stopped) = end {
                warn!("while shutting down: {stopped}");
                outcome = outcome.and(Err(stopped));
            }
        }
        outcome
    }
}
