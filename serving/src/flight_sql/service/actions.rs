//! Actions: prepared statements, cancellation and sessions.
//!
//! Invariant: an action changes nothing but what its caller made.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Command, ProstMessageExt,
};
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, FlightInfo, Result as ActionResult};
use futures::StreamExt;
use futures::stream;
use prost::Message;
use tonic::codegen::Bytes;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Response};

use super::{FlightSql, NO_TRANSACTIONS, Replies, caller, refuse_transaction};
use crate::flight_sql::callers::FlightCaller;
use crate::flight_sql::frames::schema_bytes;
use crate::flight_sql::messages::{
    self, CloseSessionResult, GetSessionOptionsResult, OptionValue, SessionEnd, SessionOptionError, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::flight_sql::prepared::FlightStatement;
use crate::flight_sql::sessions::COOKIE;
use crate::flight_sql::wire::sent_schema;
use crate::parameters::Declared;
use crate::{Error, Result};

/// The actions, and what they do.
pub(crate) const ALL: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "keeps a statement; takes an ActionCreatePreparedStatementRequest"),
    ("ClosePreparedStatement", "ends one; takes an ActionClosePreparedStatementRequest"),
    ("CancelFlightInfo", "ends the running query of a FlightInfo; takes a CancelFlightInfoRequest"),
    ("CancelQuery", "the same, as older clients ask; takes an ActionCancelQueryRequest"),
    ("SetSessionOptions", "sets thalweg.partial, thalweg.stale or thalweg.min_frontier for all calls of a session"),
    ("GetSessionOptions", "returns them"),
    ("CloseSession", "forgets them"),
];

/// The numbers by which `CancelFlightInfo` and `CancelQuery` say what became of a query.
const CANCELLED: i32 = 1;
const NOT_CANCELLABLE: i32 = 3;

impl FlightSql {
    /// Errors: [`Error::RefuseCall`] for an action that is not in [`ALL`], and those of the action.
    pub(super) async fn act(&self, request: Request<Action>) -> Result<Response<Replies<ActionResult>>> {
        let caller = caller(&request)?;
        let Action { r#type: name, body } = request.into_inner();
        let mut session = None;
        let reply = match name.as_str() {
            "CreatePreparedStatement" => Some(self.prepare(&caller, &body).await?.as_any().encode_to_vec()),
            "ClosePreparedStatement" => {
                let close: ActionClosePreparedStatementRequest =
                    messages::body("ActionClosePreparedStatementRequest", &body)?;
                self.prepared.close(caller.name, &close.prepared_statement_handle);
                None
            }
            "CancelFlightInfo" => {
                let cancel: CancelFlightInfoRequest = messages::body("CancelFlightInfoRequest", &body)?;
                let status = self.cancel(&caller, cancel.info.unwrap_or_default());
                Some(CancelFlightInfoResult { status }.encode_to_vec())
            }
            "CancelQuery" => {
                let cancel: ActionCancelQueryRequest = messages::body("ActionCancelQueryRequest", &body)?;
                let info = FlightInfo::decode(cancel.info);
                let info = info.map_err(|e| Error::ReadRequest { reason: format!("the FlightInfo: {e}") })?;
                Some(ActionCancelQueryResult { result: self.cancel(&caller, info) }.as_any().encode_to_vec())
            }
            "SetSessionOptions" => {
                let set: SetSessionOptionsRequest = messages::body("SetSessionOptionsRequest", &body)?;
                let (id, faults) = self.sessions.set(caller.name, caller.session.as_deref(), set.session_options)?;
                session = Some(format!("{COOKIE}={id}; Path=/; HttpOnly"));
                let errors = faults.into_iter().map(|(name, fault)| (name, SessionOptionError { value: fault.into() }));
                Some(SetSessionOptionsResult { errors: errors.collect() }.encode_to_vec())
            }
            "GetSessionOptions" => Some(self.session_options(&caller)?.encode_to_vec()),
            "CloseSession" => {
                let id = caller.session.as_deref().ok_or(Error::FindSession)?;
                self.sessions.close(caller.name, id);
                session = Some(format!("{COOKIE}=; Path=/; Max-Age=0"));
                Some(CloseSessionResult { status: SessionEnd::Closed.into() }.encode_to_vec())
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                return Err(Error::RefuseCall { reason: NO_TRANSACTIONS.to_owned() });
            }
            "CreatePreparedSubstraitPlan" => {
                return Err(Error::RefuseCall { reason: "plans of Substrait are not read; send SQL".to_owned() });
            }
            other => {
                let reason = format!("there is no action `{other}`; `ListActions` names those that there are");
                return Err(Error::RefuseCall { reason });
            }
        };
        let replies = reply.map(|body| Ok(ActionResult { body: body.into() }));
        let mut response = Response::new(stream::iter(replies).boxed());
        let cookie: Option<AsciiMetadataValue> = session.and_then(|cookie| cookie.parse().ok());
        if let Some(cookie) = cookie {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    async fn prepare(&self, caller: &FlightCaller, body: &[u8]) -> Result<ActionCreatePreparedStatementResult> {
        let create: ActionCreatePreparedStatementRequest =
            messages::body("ActionCreatePreparedStatementRequest", body)?;
        refuse_transaction(create.transaction_id.as_deref())?;
        let description = self.engine.describe(&create.query, Declared::new(), caller.options.clone()).await?;
        // Definitions have no columns, by which drivers know that they are no query.
        let dataset_schema = match &description.columns {
            Some(columns) => schema_bytes(&sent_schema(columns))?,
            None => Bytes::new(),
        };
        let parameters = description.parameters.iter().enumerate();
        let parameters = parameters.map(|(at, of)| Field::new(format!("${}", at + 1), bindable(of), true));
        let parameter_schema = schema_bytes(&sent_schema(&Schema::new(parameters.collect::<Vec<_>>())))?;
        let sql = create.query.into();
        let query = FlightStatement { sql, placeholders: description.parameters.len(), bound: None };
        let handle = self.prepared.keep(caller.name, query)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.to_vec().into(),
            dataset_schema,
            parameter_schema,
        })
    }

    /// Cancels the queries of a caller's tickets.
    fn cancel(&self, caller: &FlightCaller, info: FlightInfo) -> i32 {
        let mut cancelled = false;
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            let any = messages::any("the ticket", &ticket.ticket).ok();
            let command = any.and_then(|any| Command::try_from(any).ok());
            if let Some(Command::TicketStatementQuery(ticket)) = command
                && let Ok(sealed) = self.seal.open(caller, &ticket.statement_handle)
            {
                cancelled |= self.running.cancel(&sealed.id);
            }
        }
        if cancelled { CANCELLED } else { NOT_CANCELLABLE }
    }

    fn session_options(&self, caller: &FlightCaller) -> Result<GetSessionOptionsResult> {
        let id = caller.session.as_deref().ok_or(Error::FindSession)?;
        let options = self.sessions.options(caller.name, id).ok_or(Error::FindSession)?;
        let value = |text| SessionOptionValue { option_value: Some(OptionValue::Text(text)) };
        let session_options: HashMap<_, _> = options.into_iter().map(|(name, text)| (name, value(text))).collect();
        Ok(GetSessionOptionsResult { session_options })
    }
}

/// The type in which drivers bind a value; those of Java have no other times.
fn bindable(of: &DataType) -> DataType {
    match of {
        DataType::Null => DataType::Utf8,
        // Drivers of Java write milliseconds, whatever the unit is.
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        other => other.clone(),
    }
}
