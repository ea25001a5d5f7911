//! DoPut: values for prepared statements, and definitions.
//!
//! Invariant: what is put is read in bounded time and memory before anything is done with it.

use arrow_flight::FlightData;
use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use futures::TryStreamExt;
use prost::Message;
use tokio::time::timeout;
use tonic::codegen::Bytes;
use tonic::{Request, Status, Streaming};

use super::{FlightSql, caller, command, refuse_transaction, unknown_command};
use crate::flight_sql::callers::FlightCaller;
use crate::flight_sql::parameters::BoundMessages;
use crate::options::Options;
use crate::parameters::Declared;
use crate::{Error, Result};

impl FlightSql {
    /// Reads a command and its rows, and returns the metadata of the reply.
    ///
    /// Errors: [`Error::ReadRequest`], [`Error::ReadSlowRequest`], and those of the command.
    pub(super) async fn put(&self, request: Request<Streaming<FlightData>>) -> Result<Bytes> {
        let caller = caller(&request)?;
        let within = self.engine.config.http.client_within;
        let received = timeout(within, receive(request.into_inner())).await;
        let (command, rows) = received.map_err(|_| Error::ReadSlowRequest { seconds: within.as_secs_f64() })??;
        match command {
            Command::CommandStatementUpdate(update) => {
                refuse_transaction(update.transaction_id.as_deref())?;
                counted(self.define(&caller, &update.query, caller.options.clone()).await?)
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let prepared = self.prepared.get(caller.name, &update.prepared_statement_handle)?;
                if rows.decode().await?.is_some() {
                    let reason = "definitions take no values; write them into the text".to_owned();
                    return Err(Error::BindParameters { reason });
                }
                counted(self.define(&caller, &prepared.sql, caller.options.clone()).await?)
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = query.prepared_statement_handle;
                let prepared = self.prepared.get(caller.name, &handle)?;
                let bound = rows.decode().await?;
                let (given, expected) = (bound.as_ref().map_or(0, |b| b.num_columns()), prepared.placeholders);
                if given != expected && bound.is_some() {
                    let reason = format!("{given} values are bound for {expected} placeholders");
                    return Err(Error::BindParameters { reason });
                }
                self.prepared.bind(caller.name, &handle, bound)?;
                let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                Ok(result.encode_to_vec().into())
            }
            other => Err(unknown_command("DoPut", &other)),
        }
    }

    /// Applies definitions, and returns their number.
    async fn define(&self, caller: &FlightCaller, sql: &str, options: Options) -> Result<usize> {
        let described = self.engine.describe(sql, Declared::new(), caller.options.clone()).await?;
        if described.columns.is_some() {
            let reason = "a query changes nothing; ask for its rows (executeQuery, fetch)".to_owned();
            return Err(Error::RefuseCall { reason });
        }
        let answer = self.engine.run(sql, options).await?;
        let batches: Vec<_> = answer.batches.try_collect().await?;
        Ok(batches.iter().map(|batch| batch.num_rows()).sum())
    }
}

fn counted(definitions: usize) -> Result<Bytes> {
    let record_count = i64::try_from(definitions).unwrap_or(i64::MAX);
    Ok(DoPutUpdateResult { record_count }.encode_to_vec().into())
}

async fn receive(mut messages: Streaming<FlightData>) -> Result<(Command, BoundMessages)> {
    let broken = |status: Status| Error::ReadRequest { reason: format!("the rows broke off: {}", status.message()) };
    let mut first = messages.message().await.map_err(broken)?.unwrap_or_default();
    let descriptor = first.flight_descriptor.take();
    let descriptor = descriptor.ok_or_else(|| Error::ReadRequest { reason: "the put has no command".to_owned() })?;
    let command = command(&descriptor)?;
    let mut received = BoundMessages::default();
    received.push(first)?;
    while let Some(message) = messages.message().await.map_err(broken)? {
        received.push(message)?;
    }
    Ok((command, received))
}
