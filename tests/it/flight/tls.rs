//! Encrypted connections. `openssl` makes the certificates for the test.

use std::path::Path;
use std::process::Command;

use thalweg_kit::positions::level;
use thalweg_serving::WorkersConfig;
use thalweg_speed::flight::ServerTls;

use super::processes::patient;
use super::world::World;

fn openssl(folder: &Path, arguments: &str) {
    let output =
        Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority (`ca.pem`), another authority (`other.pem`), and a certificate of the first one for 127.0.0.1.
fn certificates(folder: &Path) {
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ),
        );
    }
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=worker -keyout worker.key -out worker.csr",
    );
    let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    std::fs::write(folder.join("worker.ext"), extensions).unwrap();
    openssl(
        folder,
        "x509 -req -in worker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile worker.ext -out worker.pem",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_authority_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let world = World::new(1, 20).await;
    let held = world.snapshot(&level(1, 20), &level(1, 30)).await;
    let tls = ServerTls { cert_pem: read("worker.pem"), key_pem: read("worker.key") };
    let worker = world.worker_with(held, Some("t"), Some(tls), "127.0.0.1:0").await;
    for (ca, expect) in [(Some("ca.pem"), 200), (Some("other.pem"), 503), (None, 503)] {
        let config = WorkersConfig { token: Some("t".into()), tls_ca: ca.map(read), ..patient() };
        let there = world.there(std::slice::from_ref(&worker.address), config).await;
        let reply = there.sql("SELECT * FROM totals").await;
        assert_eq!(reply.status, expect, "{ca:?}: {}", reply.body);
    }
}
