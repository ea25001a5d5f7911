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

/// Makes an authority (`ca.pem`), another authority (`other.pem`), and certificates of the first one for 127.0.0.1
/// (`worker`) and for the name `speed.example` (`named`).
fn certificates(folder: &Path) {
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ),
        );
    }
    for (name, place) in [("worker", "IP:127.0.0.1"), ("named", "DNS:speed.example")] {
        openssl(
            folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        let extensions = format!("subjectAltName={place}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(folder.join(format!("{name}.ext")), extensions).unwrap();
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.pem"
            ),
        );
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_dns_name_are_believed_by_that_name() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let world = World::new(1, 20).await;
    let held = world.snapshot(&level(1, 20), &level(1, 30)).await;
    let tls = ServerTls { cert_pem: read("named.pem"), key_pem: read("named.key") };
    let worker = world.worker_with(held, Some("t"), Some(tls), "127.0.0.1:0").await;
    for (name, expect) in [(Some("speed.example"), 200), (Some("other.example"), 503), (None, 503)] {
        let tls_name = name.map(str::to_owned);
        let config = WorkersConfig { token: Some("t".into()), tls_ca: Some(read("ca.pem")), tls_name, ..patient() };
        let there = world.there(std::slice::from_ref(&worker.address), config).await;
        let reply = there.sql("SELECT * FROM totals").await;
        assert_eq!(reply.status, expect, "{name:?}: {}", reply.body);
    }
}
