//! The ports at which clients are served. All doors ask one engine: text and values in, batches and a frontier out.
//!
//! Invariant: a door knows its protocol and nothing else, so a statement has the same answer through each of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::access::DoorTls;
use crate::changes::ChangeFeeds;
use crate::engine::Engine;
use crate::sources::{ServingConfig, Sources};
use crate::{Result, flight_sql, http, postgres};

/// The shortest time between two steps of changes.
const STEP_EVERY: Duration = Duration::from_millis(250);

/// The listeners of a server.
#[derive(Debug)]
pub struct Doors {
    pub http: TcpListener,
    /// `None` turns the PostgreSQL protocol off.
    pub postgres: Option<TcpListener>,
    /// `None` turns Arrow Flight SQL off.
    pub flight_sql: Option<TcpListener>,
    /// The certificate for PostgreSQL and Flight SQL; `None` serves plain text.
    pub tls: Option<DoorTls>,
}

/// Serves until `cancel`; after that, running queries have the configured grace time to end.
///
/// Errors: [`crate::Error::Shared`] if the spill folder cannot be used, [`crate::Error::StartThreads`],
/// [`crate::Error::ServeTls`].
pub async fn serve(doors: Doors, config: ServingConfig, sources: Sources, cancel: CancellationToken) -> Result<()> {
    let grace = config.shutdown_grace;
    let engine = Arc::new(Engine::new(config, sources)?);
    let feeds = Arc::new(ChangeFeeds::new(engine.config.max_listeners, STEP_EVERY, cancel.clone()));
    let Doors { http, postgres, flight_sql, tls } = doors;
    let answering = async {
        tokio::try_join!(
            async {
                http::answer(http, Arc::clone(&engine), Arc::clone(&feeds), cancel.clone()).await;
                Ok(())
            },
            async {
                match postgres {
                    Some(listener) => {
                        let (engine, feeds) = (Arc::clone(&engine), Arc::clone(&feeds));
                        postgres::answer(listener, engine, feeds, tls.clone(), cancel.clone()).await
                    }
                    None => Ok(()),
                }
            },
            async {
                match flight_sql {
                    Some(listener) => {
                        flight_sql::answer(listener, Arc::clone(&engine), tls.clone(), cancel.clone()).await
                    }
                    None => Ok(()),
                }
            },
        )
    };
    let overdue = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        answered = answering => drop(answered?),
        () = overdue => tracing::info!("queries were cut off by the shutdown"),
    }
    Ok(())
}
