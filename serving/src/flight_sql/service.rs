//! The calls of Flight: each command is told from the others here, and answered by the engine or from the catalog.
//!
//! Invariant: GetFlightInfo plans and never runs; what runs is asked by DoGet or DoPut.

mod actions;

mod puts;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use datafusion::common::TableReference;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::codegen::Bytes;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{self, AnswerClient, FlightMessages, FlightQuery};
use super::callers::{self, FlightCaller};
use super::connections::FlightClient;
use super::frames::AnswerHead;
use super::prepared::FlightStatements;
use super::refusal::status;
use super::running::RunningFlights;
use super::sessions::FlightSessions;
use super::tickets::{SealedQuery, TicketSeal};
use super::{REQUEST_BYTES, facts, frames, messages, parameters, tables, wire};
use crate::access::{AccessDenied, Right};
use crate::engine::{Engine, Standing};
use crate::parameters::Declared;
use crate::statements;
use crate::{Error, Result};

#[cfg(test)]
pub(super) use self::actions::ALL as ACTIONS;

/// What is asked for by a command.
struct AskedFlight {
    schema: SchemaRef,
    ticket: Any,
    /// The tables that a query reads.
    tables: Option<Vec<TableReference>>,
}

type Replies<T> = BoxStream<'static, std::result::Result<T, Status>>;

/// The state that all calls share.
pub(super) struct FlightSql {
    engine: Arc<Engine>,
    sessions: Arc<FlightSessions>,
    prepared: FlightStatements,
    running: RunningFlights,
    seal: TicketSeal,
}

impl FlightSql {
    pub(super) fn new(engine: Arc<Engine>, sessions: Arc<FlightSessions>) -> Self {
        Self {
            engine,
            sessions,
            prepared: FlightStatements::default(),
            running: RunningFlights::default(),
            seal: TicketSeal::new(),
        }
    }

    /// The answer to a command that asks about the catalog or the server; `None` for other commands.
    fn known(&self, command: &Command) -> Result<Option<RecordBatch>> {
        let catalog = || Arc::clone(&self.engine.sources.shared.catalog.borrow());
        Ok(Some(match command {
            Command::CommandGetCatalogs(_) => tables::catalogs()?,
            Command::CommandGetDbSchemas(command) => tables::schemas(&catalog(), command.clone())?,
            Command::CommandGetTables(command) => tables::tables(&catalog(), command.clone())?,
            Command::CommandGetTableTypes(_) => tables::table_types()?,
            Command::CommandGetPrimaryKeys(_) => tables::primary_keys(),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => tables::foreign_keys(),
            Command::CommandGetSqlInfo(command) => facts::sql_info(&command.info, REQUEST_BYTES)?,
            Command::CommandGetXdbcTypeInfo(command) => facts::types(command.data_type)?,
            _ => return Ok(None),
        }))
    }

    /// Describes a statement, or a prepared one with its values, and makes a ticket for it.
    async fn ask(&self, caller: &FlightCaller, command: Command) -> Result<AskedFlight> {
        if let Some(batch) = self.known(&command)? {
            return Ok(AskedFlight { schema: batch.schema(), ticket: command.into_any(), tables: None });
        }
        let (sql, description, bound) = match command {
            Command::CommandStatementQuery(query) => {
                refuse_transaction(query.transaction_id.as_deref())?;
                let description = self.engine.describe(&query.query, Vec::new(), caller.options.clone()).await?;
                (query.query, description, Vec::new())
            }
            Command::CommandPreparedStatementQuery(query) => {
                let prepared = self.prepared.get(caller.name, &query.prepared_statement_handle)?;
                let declared = prepared.bound.as_ref().map_or(Declared::new(), |bound| parameters::declared(bound));
                let description = self.engine.describe(&prepared.sql, declared, caller.options.clone()).await?;
                let bound = prepared.bound.as_ref().map_or(Ok(Vec::new()), |bound| parameters::to_bytes(bound))?;
                (prepared.sql.to_string(), description, bound)
            }
            other => return Err(unknown_command("GetFlightInfo", &other)),
        };
        let schema = description.columns.clone().unwrap_or_else(statements::applied_schema);
        let sealed = SealedQuery::new(caller, sql, &caller.options, bound)?;
        let ticket = TicketStatementQuery { statement_handle: self.seal.seal(&sealed) };
        let tables = description.columns.is_some().then(|| description.tables.clone());
        Ok(AskedFlight { schema: wire::sent_schema(&schema), ticket: ticket.as_any(), tables })
    }

    /// Where the answer of a flight would stand now, as JSON; empty if that is not known.
    async fn standing(&self, caller: &FlightCaller, tables: Option<&[TableReference]>) -> Result<Bytes> {
        let Some(tables) = tables else { return Ok(Bytes::new()) };
        match self.engine.standing(tables, &caller.options).await {
            None => Ok(Bytes::new()),
            Some(Standing { frontier, stale, partial, views }) => {
                AnswerHead { frontier: &frontier, stale, partial: &partial, views: &views }.to_bytes()
            }
        }
    }

    async fn info(&self, request: Request<FlightDescriptor>) -> Result<FlightInfo> {
        let caller = caller(&request)?;
        let descriptor = request.into_inner();
        let AskedFlight { schema, ticket, tables } = self.ask(&caller, command(&descriptor)?).await?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
        Ok(FlightInfo {
            schema: frames::schema_bytes(&schema)?,
            flight_descriptor: Some(descriptor),
            endpoint: vec![endpoint],
            // Neither is known before the query has run.
            total_records: -1,
            total_bytes: -1,
            ordered: true,
            app_metadata: self.standing(&caller, tables.as_deref()).await?,
        })
    }

    async fn get(&self, request: Request<Ticket>) -> Result<FlightMessages> {
        let caller = caller(&request)?;
        let connection = request.extensions().get::<FlightClient>().cloned();
        let ticket = messages::any("the ticket", &request.get_ref().ticket)?;
        let command = Command::try_from(ticket).map_err(|_| Error::OpenTicket)?;
        if let Some(batch) = self.known(&command)? {
            return answers::whole(&batch);
        }
        let Command::TicketStatementQuery(ticket) = command else {
            return Err(unknown_command("DoGet", &command));
        };
        let sealed = self.seal.open(&caller, &ticket.statement_handle)?;
        let listed = self.running.list(&sealed.id);
        let (options, rows) = (sealed.options(&caller)?, sealed.rows()?);
        let taking = AnswerClient { within: self.engine.config.http.client_within, connection };
        answers::start(Arc::clone(&self.engine), FlightQuery { sql: sealed.sql, options, rows }, listed, taking).await
    }

    /// Checks the credentials of a handshake, and returns the token that they hold.
    async fn greet(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<String> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let mut token = header.and_then(callers::token);
        if token.is_none() {
            let mut messages = request.into_inner();
            let first = tokio::time::timeout(self.engine.config.http.client_within, messages.message()).await;
            let first = first.ok().and_then(std::result::Result::ok).flatten();
            // Older clients send the name and the password as a message.
            let basic = first.and_then(|first| BasicAuth::decode(first.payload).ok());
            token = basic.map(|basic| basic.password).filter(|password| !password.is_empty());
        }
        let access = &self.engine.config.access;
        access.check(Right::Query, token.as_deref()).map_err(Error::Deny)?;
        Ok(token.unwrap_or_default())
    }
}

/// What is known of the caller; the door has put it there.
fn caller<T>(request: &Request<T>) -> Result<FlightCaller> {
    request.extensions().get::<FlightCaller>().cloned().ok_or(Error::Deny(AccessDenied::NoToken))
}

fn command(descriptor: &FlightDescriptor) -> Result<Command> {
    if descriptor.r#type() != DescriptorType::Cmd {
        let reason = "flights have no paths here; ask for the rows of a query, as Flight SQL clients do".to_owned();
        return Err(Error::RefuseCall { reason });
    }
    let any = messages::any("the command", &descriptor.cmd)?;
    Command::try_from(any).map_err(|error| Error::ReadRequest { reason: format!("the command: {error}") })
}

fn refuse_transaction(id: Option<&[u8]>) -> Result<()> {
    match id {
        None | Some([]) => Ok(()),
        Some(_) => Err(Error::RefuseCall { reason: NO_TRANSACTIONS.to_owned() }),
    }
}

/// Why there are no transactions.
const NO_TRANSACTIONS: &str = "there are no transactions: each query reads one frontier, and definitions hold at once; \
                               leave autocommit on";

fn unknown_command(call: &str, command: &Command) -> Error {
    let reason = match command {
        Command::CommandStatementSubstraitPlan(_) => "plans of Substrait are not read; send SQL".to_owned(),
        Command::CommandStatementIngest(_) => {
            "rows are not taken here; send messages to the topic of a stream".to_owned()
        }
        other => format!("{call} does not take {}", other.type_url()),
    };
    Error::RefuseCall { reason }
}

fn replied<T>(reply: Result<T>) -> std::result::Result<Response<T>, Status> {
    reply.map(Response::new).map_err(|error| status(&error))
}

fn refused<T>(reason: &str) -> std::result::Result<Response<T>, Status> {
    Err(status(&Error::RefuseCall { reason: reason.to_owned() }))
}

#[tonic::async_trait]
impl FlightService for FlightSql {
    type HandshakeStream = Replies<HandshakeResponse>;
    type ListFlightsStream = Replies<FlightInfo>;
    type DoGetStream = FlightMessages;
    type DoPutStream = Replies<PutResult>;
    type DoExchangeStream = Replies<FlightData>;
    type DoActionStream = Replies<ActionResult>;
    type ListActionsStream = Replies<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> std::result::Result<Response<Self::HandshakeStream>, Status> {
        let token = self.greet(request).await.map_err(|error| status(&error))?;
        let reply = HandshakeResponse { protocol_version: 0, payload: token.clone().into_bytes().into() };
        let mut response = Response::new(stream::iter([Ok(reply)]).boxed());
        // Clients expect a token also where none is asked for; a token that no header can hold is such a one.
        let bearer = Some(format!("Bearer {token}"))
            .filter(|_| !token.is_empty() && token.is_ascii())
            .and_then(|bearer| bearer.parse().ok());
        let bearer = bearer.unwrap_or_else(|| MetadataValue::from_static("Bearer anybody"));
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> std::result::Result<Response<Self::ListFlightsStream>, Status> {
        refused("tables are listed by GetTables of Flight SQL")
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<FlightInfo>, Status> {
        replied(self.info(request).await)
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<PollInfo>, Status> {
        // A query is planned at once, and runs when its rows are asked for.
        let info = self.info(request).await;
        replied(info.map(|info| PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<SchemaResult>, Status> {
        let schema = self.info(request).await.map(|info| SchemaResult { schema: info.schema });
        replied(schema)
    }

    async fn do_get(&self, request: Request<Ticket>) -> std::result::Result<Response<FlightMessages>, Status> {
        replied(self.get(request).await)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoPutStream>, Status> {
        let put = self.put(request).await;
        replied(put.map(|app_metadata| stream::iter([Ok(PutResult { app_metadata })]).boxed()))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoExchangeStream>, Status> {
        refused("nothing is exchanged here; send SQL")
    }

    async fn do_action(&self, request: Request<Action>) -> std::result::Result<Response<Self::DoActionStream>, Status> {
        self.act(request).await.map_err(|error| status(&error))
    }

    async fn list_actions(&self, _: Request<Empty>) -> std::result::Result<Response<Self::ListActionsStream>, Status> {
        let actions = actions::ALL
            .map(|(name, description)| Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() }));
        Ok(Response::new(stream::iter(actions).boxed()))
    }
}
