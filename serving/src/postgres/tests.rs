//! The door with real clients over a real listener.

mod bytes;
mod changes;
mod clients;
mod encryption;
mod extended;
mod limits;
mod simple;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::*;
use crate::fixture::{World, at};
use crate::sources::ServingConfig;

fn feeds(end: &CancellationToken) -> Arc<ChangeFeeds> {
    Arc::new(ChangeFeeds::new(4, Duration::from_millis(1), end.clone()))
}

struct Server {
    world: World,
    port: u16,
    cancel: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::configured(|_| ()).await
    }

    async fn configured(change: impl FnOnce(&mut ServingConfig)) -> Self {
        Self::encrypted(None, change).await
    }

    async fn encrypted(tls: Option<DoorTls>, change: impl FnOnce(&mut ServingConfig)) -> Self {
        let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = ServingConfig { shutdown_grace: Duration::from_millis(100), ..world.config() };
        change(&mut config);
        let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
        let cancel = CancellationToken::new();
        let feeds = feeds(&cancel);
        let task = tokio::spawn(answer(listener, engine, feeds, tls, cancel.clone()));
        Self { world, port, cancel, task }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("somebody").dbname("thalweg");
        config
    }

    async fn client(&self) -> Client {
        self.client_of(&self.config()).await.unwrap()
    }

    async fn client_of(&self, config: &Config) -> std::result::Result<Client, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The rows of a text of statements.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}

/// The only value of an answer.
async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0][0].clone().unwrap()
}

/// State and sentence of an error.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => format!("{error:?}"),
    }
}

/// The state of the error of a text.
async fn refused(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await.expect_err(sql);
    said(&error)
}

/// Waits until a condition holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
}
