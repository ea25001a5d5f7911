//! One client's connection: answers requests one after the other, in the order of arrival.
//!
//! Invariant: a client's bytes can end only that client's connection.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::frame::{self, Arrived, Broken};
use super::node::{Node, Peer};
use super::requests;

/// Answers requests until the client disconnects or the broker stops.
pub(crate) async fn answer(mut stream: TcpStream, node: Arc<Node>, room: Arc<Semaphore>) -> Result<(), Broken> {
    // Without this option a small answer waits for the client's TCP acknowledgement.
    stream.set_nodelay(true)?;
    let peer = Peer { address: stream.peer_addr()?.ip().to_canonical(), reached: stream.local_addr()? };
    loop {
        let arrived = tokio::select! {
            () = node.stop.cancelled() => return Ok(()),
            arrived = frame::next(&mut stream, &room, requests::offers) => arrived?,
        };
        let answered = match arrived {
            Arrived::End => return Ok(()),
            Arrived::AskedVersions { correlation } => Some(requests::versions::refuse(correlation)?),
            Arrived::Request(call) => tokio::select! {
                answered = requests::answer(&node, peer, &call) => answered?,
                () = gone(&stream) => return Ok(()),
            },
        };
        if let Some(frame) = answered {
            stream.write_all(&frame).await?;
        }
    }
}

/// Ends when the client disconnects. Never ends if the client has already sent its next request.
async fn gone(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}
