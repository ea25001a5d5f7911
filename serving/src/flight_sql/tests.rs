//! Every call of Flight SQL over a real listener, by the client of `arrow-flight` and by hand.

mod access;
mod calls;
mod hostile;
mod prepared;

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::*;
use crate::access::{Access, AccessToken, HttpLimits};
use crate::fixture::{World, at};
use crate::sources::ServingConfig;

/// A server, and the platform behind it.
struct FlightServer {
    world: World,
    engine: Arc<Engine>,
    address: std::net::SocketAddr,
    cancel: CancellationToken,
}

impl FlightServer {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut ServingConfig)) -> Self {
        let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
        let mut config = world.config();
        change(&mut config);
        let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(answer(listener, Arc::clone(&engine), None, cancel.clone()));
        Self { world, engine, address, cancel }
    }

    async fn guarded(query: &str, admin: &str) -> Self {
        let token = |text: &str| (!text.is_empty()).then(|| AccessToken::new(text));
        let access = Access { query: token(query), admin: token(admin), ..Access::default() };
        Self::with(|config| config.access = access).await
    }

    async fn channel(&self) -> Channel {
        Endpoint::new(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(self.channel().await)
    }

    async fn raw(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }
}

impl Drop for FlightServer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// The rows of a flight, checked against its schema.
async fn rows(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let announced = info.try_decode_schema().unwrap();
    let stream = client.do_get(ticket).await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    for batch in &batches {
        assert_eq!(batch.schema().fields(), announced.fields());
    }
    batches
}

async fn query(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Vec<String> {
    let info = client.execute(sql.to_owned(), None).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    lines(&rows(client, info).await)
}

/// The lines of a table without its frame.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    text.lines().filter(|line| !line.starts_with('+')).map(|line| line.trim_matches('|').trim().to_owned()).collect()
}

fn statement(sql: &str) -> FlightDescriptor {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

/// The ticket of a query.
async fn ticket(raw: &mut FlightServiceClient<Channel>, sql: &str) -> Result<Ticket, Status> {
    let info = raw.get_flight_info(statement(sql)).await?.into_inner();
    Ok(info.endpoint[0].ticket.clone().unwrap())
}

/// The messages of a ticket until the end or an error.
async fn messages(raw: &mut FlightServiceClient<Channel>, ticket: Ticket) -> Result<Vec<FlightData>, Status> {
    raw.do_get(ticket).await?.into_inner().try_collect().await
}

/// What a refusal says: its code, and the code in its details.
fn refusal(status: &Status) -> (Code, String) {
    let details = status.metadata().get(refusal::ERROR).map(|json| json.to_str().unwrap().to_owned());
    let details: serde_json::Value = serde_json::from_str(&details.unwrap_or("{}".into())).unwrap();
    (status.code(), details["code"].as_str().unwrap_or_default().to_owned())
}

fn with_body(name: &str, body: Vec<u8>) -> Action {
    Action { r#type: name.to_owned(), body: body.into() }
}
