//! The PostgreSQL protocol.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::access::DoorTls;
use crate::engine::Engine;

/// Answers connections until `cancel`, and then until the last one has ended.
pub(crate) async fn answer(
    listener: TcpListener,
    engine: Arc<Engine>,
    tls: Option<DoorTls>,
    cancel: CancellationToken,
) -> Result<()> {
    let _ = (engine, tls);
    cancel.cancelled().await;
    drop(listener);
    Ok(())
}
