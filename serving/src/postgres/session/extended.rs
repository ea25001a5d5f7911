//! The extended protocol: statements that are prepared, values that are bound, and portals that are read in parts.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use pgwire::api::Type;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;

use super::super::budget::BudgetShare;
use super::super::commands::{self, ClientCommand, ClientStatement};
use super::super::failure::{Failure, Unanswered};
use super::super::parameters;
use super::super::requests::{Bind, Target, check_count};
use super::super::types::{self, Formats};
use super::super::wire::{Stop, Wire};
use super::portal::{Portal, PreparedStatement};
use super::simple::{LONG_TEXT, split};
use super::sizes::{self, HELD, PORTALS, STATEMENTS};
use super::{PostgresSession, complete};
use crate::changes::read_query;
use crate::engine::Description;
use crate::parameters::{Parameter, exactly};

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
        let (statement, held) = statements.pop().unzip();
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
        self.keep_statement(name, statement, types, held)?;
        wire.send(&ParseComplete::new())
    }

    /// Keeps a prepared statement under a name. `held` counts for the statement already.
    ///
    /// Errors: a failure if a limit is reached.
    pub(super) fn keep_statement(
        &mut self,
        name: String,
        statement: Option<ClientStatement>,
        types: Vec<Option<Type>>,
        held: Option<BudgetShare>,
    ) -> Result<(), Failure> {
        check_count(types.len())?;
        if !self.statements.contains_key(&name) {
            sizes::check(self.statements.len(), STATEMENTS, "prepared statements", "deallocate some")?;
        }
        let own = statement.as_ref().map_or(0, ClientStatement::bytes);
        let bytes = own + name.len() + size_of_val(types.as_slice()) + HELD;
        let held = match held {
            Some(mut held) => held.resize(bytes).map(|()| held)?,
            None => self.budget.hold(bytes)?,
        };
        self.statements.insert(name, Arc::new(PreparedStatement::new(statement, types, held)));
        Ok(())
    }

    /// Errors: a failure if there is no place for a portal of this name.
    pub(super) fn check_portals(&self, name: &str) -> Result<(), Failure> {
        match self.portals.contains_key(name) {
            true => Ok(()),
            false => sizes::check(self.portals.len(), PORTALS, "portals and cursors", "close some"),
        }
    }

    pub(super) async fn bind(&mut self, wire: &mut Wire, bind: Bind) -> Result<(), Unanswered> {
        let prepared = self.prepared(&bind.statement)?;
        if let Some(statement) = &prepared.statement {
            self.check_block(&statement.command)?;
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Failure::new("42P03", format!("portal \"{}\" already exists", bind.portal)).into());
        }
        self.check_portals(&bind.portal)?;
        let stop = self.begin();
        let values = self.values(wire, &prepared, &bind, &stop).await;
        self.interrupt.end();
        let formats = size_of_val(bind.result_formats.as_slice());
        let mut portal = self.portal(prepared, values?, Formats(bind.result_formats))?;
        let bytes = sizes::values(&portal.values) + formats + bind.portal.len() + HELD;
        portal.values_held = Some(self.budget.hold(bytes)?);
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
        let sent = bind.values.iter().enumerate().map(|(at, value)| {
            let wanted = described.as_ref().and_then(|described| described.parameters.get(at)).cloned();
            let is_binary = formats.is_binary(at);
            SentValue { value: value.clone(), is_binary, declared: declared(at), wanted }
        });
        let sent: Vec<SentValue> = sent.collect();
        if bind.values.iter().flatten().map(bytes::Bytes::len).sum::<usize>() < LONG_TEXT {
            return Ok(read_all(sent)?);
        }
        let budget = self.budget.clone();
        let reading = async {
            let _place = budget.long_text().await;
            tokio::task::spawn_blocking(move || read_all(sent)).await
        };
        let read = wire.attend(stop, reading).await?;
        Ok(read.map_err(|error| Failure::new("XX000", error.to_string()))??)
    }

    pub(super) fn catalog_version(&self) -> u64 {
        self.engine.sources.shared.catalog.borrow().version
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
            // The engine does not know changes, and nobody is told of the columns of a COPY.
            ClientCommand::Copy(_) => {
                let query = commands::query(sql);
                if read_query(&query).map_err(|error| Failure::of(&error, &query, *before))?.is_some() {
                    return Ok(None);
                }
                query
            }
            _ => return Ok(None),
        };
        let declared = prepared.types.iter().map(|given| given.as_ref().and_then(types::planned)).collect();
        let engine = Arc::clone(&self.engine);
        let describing = Box::pin(engine.describe(&sql, declared, self.options()));
        let described = wire.attend(stop, describing).await?;
        let described = described.map_err(|error| Failure::of(&error, &sql, *before))?;
        prepared.describe(Arc::clone(&described), self.budget.hold(described.bytes())?);
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
        let catalog = self.catalog_version();
        prepared.ask_again();
        let described = self.description(wire, &prepared, stop).await?;
        if let Some(described) = &described {
            prepared.tell(Arc::clone(described), catalog);
        }
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
                executed.ask_again();
                let described = self.description(wire, &executed, stop).await?;
                if let Some(described) = &described {
                    executed.tell(Arc::clone(described), catalog);
                }
                described.filter(|_| is_query).and_then(|described| described.columns.clone())
            }
            Some(ClientCommand::Fetch { name, moves: false, .. }) => self.cursor(name)?.schema().cloned(),
            Some(command) => self.local_columns(command),
            None => None,
        };
        match columns {
            Some(schema) => {
                types::check_count(&schema)?;
                wire.send(&types::description(&schema, &Formats::default()))
            }
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

/// A value of a message, and what is known of its type.
struct SentValue {
    value: Option<bytes::Bytes>,
    is_binary: bool,
    /// The type that the client has given.
    declared: Option<Type>,
    /// The type that the query expects, where it was asked.
    wanted: Option<DataType>,
}

fn read_all(sent: Vec<SentValue>) -> Result<Vec<Parameter>, Failure> {
    let numbered = sent.into_iter().enumerate();
    let read = numbered
        .map(|(at, value)| value.read().map_err(|reason| Failure::new("22P02", format!("${}: {reason}", at + 1))));
    read.collect()
}

impl SentValue {
    fn read(self) -> Result<Parameter, String> {
        let Some(bytes) = &self.value else {
            let null = self.declared.and_then(|given| types::taken(&given));
            let null = null.and_then(|data_type| ScalarValue::try_from(&data_type).ok());
            return Ok(null.map_or(Parameter::Null, Parameter::Typed));
        };
        let asked = self.is_binary || parameters::needs_type(bytes);
        let wanted = self.wanted.as_ref().filter(|_| asked && self.declared.is_none());
        let given = self.declared.clone().or_else(|| wanted.map(parameters::expected));
        let read = parameters::read(given.as_ref(), self.is_binary, bytes)?;
        Ok(match (read, wanted) {
            // The query has been planned for a type, and a value has it.
            (Parameter::Typed(value), Some(wanted)) => Parameter::Typed(exactly(value, wanted)?),
            (read, _) => read,
        })
    }
}
