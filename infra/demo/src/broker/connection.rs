//! One client's connection: its requests are answered one after the other, in their order.
//!
//! Invariant: what a client sends can end its own connection and nothing else.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::frame::{self, Arrived, Broken};
use super::node::{Node, Peer};
use super::requests;

/// Answers until the client goes or the broker stops.
pub(crate) async fn answer(mut stream: TcpStream, node: Arc<Node>, room: Arc<Semaphore>) -> Result<(), Broken> {
    // Without it a small answer waits for the client's acknowledgement.
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

/// Ends when the client goes while it is waited with; never if it has sent its next request already.
async fn gone(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}
