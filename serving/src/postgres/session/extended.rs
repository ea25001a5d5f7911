//! The extended protocol: statements that are prepared, values that are bound, and portals that are read in parts.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use parking_lot::Mutex;
use pgwire::api::Type;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;

use super::super::commands::{self, ClientCommand, ClientStatement};
use super::super::failure::{Failure, Unanswered};
use super::super::parameters;
use super::super::requests::{Bind, Target};
use super::super::types::{self, Formats};
use super::super::wire::{Stop, Wire};
use super::portal::{Portal, PreparedStatement};
use super::simple::split;
use super::{PostgresSession, complete};
use crate::engine::Description;
use crate::parameters::Parameter;

/// Bytes that count for a statement or a portal beside its text and its values.
const HELD: usize = 512;

/// The type of a text without a type.
const UNKNOWN: u32 = 705;

impl PostgresSession {
    pub(super) async fn parse(
        &mut self,
        wire: &mut Wire,
        name: String,
        sql: &str,
        oids: &[u32],
    ) -> Result<(), Unanswered> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Failure::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        let mut statements = split(&self.budget, sql).await?;
        let statement = statements.pop();
        if !statements.is_empty() {
            return Err(Failure::syntax("cannot insert multiple commands into a prepared statement").into());
        }
        if let Some(statement) = &statement {
            self.check_block(&statement.command)?;
        }
        let types = oids.iter().map(|oid| match *oid {
            0 | UNKNOWN => Ok(None),
            oid => {
                let known = Type::from_oid(oid).map(Some);
                known.ok_or_else(|| Failure::new("42704", format!("there is no type with the number {oid}")))
            }
        });
        let types = types.collect::<Result<_, _>>()?;
        let held = self.budget.hold(sql.len() + name.len() + HELD)?;
        let prepared = PreparedStatement { statement, types, described: Mutex::default(), _held: held };
        self.statements.insert(name, Arc::new(prepared));
        wire.send(&ParseComplete::new())
    }

    pub(super) async fn bind(&mut self, wire: &mut Wire, bind: Bind) -> Result<(), Unanswered> {
        let prepared = self.prepared(&bind.statement)?;
        if let Some(statement) = &prepared.statement {
            self.check_block(&statement.command)?;
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Failure::new("42P03", format!("portal \"{}\" already exists", bind.portal)).into());
        }
        let stop = self.begin();
        let values = self.values(wire, &prepared, &bind, &stop).await;
        self.interrupt.end();
        let size: usize = bind.values.iter().flatten().map(bytes::Bytes::len).sum();
        let held = self.budget.hold(size + HELD)?;
        let mut portal = self.portal(prepared, values?, Formats(bind.result_formats))?;
        portal._held = Some(held);
        self.portals.insert(bind.portal, portal);
        wire.send(&BindComplete::new())
    }

    /// The values of a message.
    async fn values(
        &mut self,
        wire: &mut Wire,
        prepared: &PreparedStatement,
        bind: &Bind,
        stop: &Stop,
    ) -> Result<Vec<Parameter>, Unanswered> {
        let formats = Formats(bind.value_formats.clone());
        if !formats.fit(bind.values.len()) {
            let failure =
                Failure::protocol(format!("there are {} formats for {} values", formats.0.len(), bind.values.len()));
            return Err(failure.into());
        }
        let declared = |at: usize| prepared.types.get(at).cloned().flatten();
        let asks = |(at, value): (usize, &Option<bytes::Bytes>)| {
            let needs = |value: &bytes::Bytes| formats.is_binary(at) || parameters::needs_type(value);
            declared(at).is_none() && value.as_ref().is_some_and(needs)
        };
        let described = match bind.values.iter().enumerate().any(asks) {
            true => self.description(wire, prepared, stop).await?,
            false => prepared.description(),
        };
        let mut values = Vec::with_capacity(bind.values.len());
        for (at, value) in bind.values.iter().enumerate() {
            let wanted = described.as_ref().and_then(|described| described.parameters.get(at));
            let Some(bytes) = value else {
                let null = declared(at).and_then(|given| types::taken(&given));
                let null = null.and_then(|data_type| ScalarValue::try_from(&data_type).ok());
                values.push(null.map_or(Parameter::Null, Parameter::Typed));
                continue;
            };
            let is_binary = formats.is_binary(at);
            let asked = is_binary || parameters::needs_type(bytes);
            let given = declared(at).or_else(|| wanted.filter(|_| asked).map(parameters::expected));
            let wrong = |reason: String| Failure::new("22P02", format!("${}: {reason}", at + 1));
            let read = parameters::read(given.as_ref(), is_binary, bytes).map_err(wrong)?;
            values.push(match (read, wanted) {
                // The query has been planned for a type, and a value has it.
                (Parameter::Typed(value), Some(wanted)) if declared(at).is_none() => {
                    let cast = value.cast_to(wanted).map_err(|error| wrong(error.strip_backtrace()))?;
                    Parameter::Typed(cast)
                }
                (read, _) => read,
            });
        }
        Ok(values)
    }

    /// What the engine says of a statement; it is asked once.
    async fn description(
        &mut self,
        wire: &mut Wire,
        prepared: &PreparedStatement,
        stop: &Stop,
    ) -> Result<Option<Arc<Description>>, Unanswered> {
        if let Some(known) = prepared.description() {
            return Ok(Some(known));
        }
        let Some(ClientStatement { command, sql, before }) = &prepared.statement else { return Ok(None) };
        let sql = match command {
            ClientCommand::Query { .. } | ClientCommand::Define { .. } | ClientCommand::Declare { .. } => sql.clone(),
            ClientCommand::Copy(_) => commands::query(sql),
            _ => return Ok(None),
        };
        let declared = prepared.types.iter().map(|given| given.as_ref().and_then(types::planned)).collect();
        let engine = Arc::clone(&self.engine);
        let describing = Box::pin(engine.describe(&sql, declared, self.options()));
        let described = wire.attend(stop, describing).await?;
        let described = Arc::new(described.map_err(|error| Failure::of(&error, &sql, *before))?);
        *prepared.described.lock() = Some(Arc::clone(&described));
        Ok(Some(described))
    }

    pub(super) async fn describe(&mut self, wire: &mut Wire, target: Target, name: &str) -> Result<(), Unanswered> {
        let stop = self.begin();
        let described = match target {
            Target::Statement => self.describe_statement(wire, name, &stop).await,
            Target::Portal => self.describe_portal(wire, name, &stop).await,
        };
        self.interrupt.end();
        described
    }

    async fn describe_statement(&mut self, wire: &mut Wire, name: &str, stop: &Stop) -> Result<(), Unanswered> {
        let prepared = self.prepared(name)?;
        if let Some(statement) = &prepared.statement {
            self.check_block(&statement.command)?;
        }
        let described = self.description(wire, &prepared, stop).await?;
        let count = described.as_ref().map_or(0, |described| described.parameters.len()).max(prepared.types.len());
        let oids = (0..count).map(|at| {
            let declared = prepared.types.get(at).cloned().flatten();
            let wanted = described.as_ref().and_then(|described| described.parameters.get(at));
            declared.or_else(|| wanted.map(parameters::expected)).unwrap_or(Type::TEXT).oid()
        });
        wire.send(&ParameterDescription::new(oids.collect()))?;
        let columns = match prepared.statement.as_ref().map(|statement| &statement.command) {
            Some(ClientCommand::Query { .. }) => described.and_then(|described| described.columns.clone()),
            Some(ClientCommand::Execute { name, .. }) => {
                let executed = self.prepared(name)?;
                let is_query =
                    matches!(&executed.statement, Some(ClientStatement { command: ClientCommand::Query { .. }, .. }));
                let described = self.description(wire, &executed, stop).await?;
                described.filter(|_| is_query).and_then(|described| described.columns.clone())
            }
            Some(ClientCommand::Fetch { name, moves: false, .. }) => self.cursor(name)?.schema().cloned(),
            Some(command) => self.local_columns(command),
            None => None,
        };
        match columns {
            Some(schema) => wire.send(&types::description(&schema, &Formats::default())),
            None => wire.send(&NoData::new()),
        }
    }

    /// Describes a portal. A query is started, because it is planned for that: the next message is to execute it.
    async fn describe_portal(&mut self, wire: &mut Wire, name: &str, stop: &Stop) -> Result<(), Unanswered> {
        let mut portal = self.take_portal(name)?;
        let is_cursor =
            matches!(&portal.prepared.statement, Some(ClientStatement { command: ClientCommand::Declare { .. }, .. }));
        let columns = match is_cursor {
            true => Ok(portal.schema().cloned()),
            false => self.columns(wire, &mut portal, stop).await,
        };
        let formats = portal.formats.clone();
        self.portals.insert(name.to_owned(), portal);
        match columns? {
            Some(schema) => wire.send(&types::description(&schema, &formats)),
            None => wire.send(&NoData::new()),
        }
    }

    fn take_portal(&mut self, name: &str) -> Result<Portal, Failure> {
        let found = self.portals.remove(name);
        found.ok_or_else(|| Failure::new("34000", format!("portal \"{name}\" does not exist")))
    }

    pub(super) async fn execute(&mut self, wire: &mut Wire, name: &str, rows: usize) -> Result<(), Unanswered> {
        let mut portal = self.take_portal(name)?;
        let stop = self.begin();
        let run = match portal.prepared.statement.as_ref().map(|statement| self.check_block(&statement.command)) {
            None => {
                self.interrupt.end();
                self.portals.insert(name.to_owned(), portal);
                return wire.send(&EmptyQueryResponse::new());
            }
            Some(Err(failure)) => Err(Unanswered::from(failure)),
            Some(Ok(())) => self.run(wire, &mut portal, (rows > 0).then_some(rows), &stop).await,
        };
        self.interrupt.end();
        let run = run?;
        self.portals.insert(name.to_owned(), portal);
        match (run.suspended, run.tags.into_iter().next_back()) {
            (true, _) => wire.send(&PortalSuspended::new()),
            (false, tag) => complete(wire, tag.unwrap_or_default()),
        }
    }

    pub(super) fn close(&mut self, wire: &mut Wire, target: Target, name: &str) -> Result<(), Unanswered> {
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
        wire.send(&CloseComplete::new())
    }
}
