//! TLS by the certificate of the server.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const TLS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

#[tokio::test]
async fn without_a_certificate_clients_are_told_to_go_on_in_plain_text() {
    let server = Server::start().await;
    let mut raw = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    for request in [TLS_REQUEST, b"\0\0\0\x08\x04\xd2\x16\x30"] {
        raw.write_all(request).await.unwrap();
        assert_eq!(raw.read_u8().await.unwrap(), b'N');
    }
    raw.write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0").await.unwrap();
    assert_eq!(raw.read_u8().await.unwrap(), b'R');
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_an_error_at_the_start() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let engine = Arc::new(Engine::new(world.config(), world.sources.clone()).unwrap());
    for (cert, key) in [("", ""), ("nonsense", "nonsense"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = DoorTls { cert_pem: cert.into(), key_pem: key.into() };
        let end = CancellationToken::new();
        let answered = answer(listener, Arc::clone(&engine), feeds(&end), Some(tls), end).await;
        assert!(matches!(answered, Err(Error::ServeTls(_))), "{cert} {answered:?}");
    }
}
