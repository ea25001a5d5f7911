//! Statements that the session answers by itself: transaction blocks, settings, prepared statements and cursors.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::stream;
use pgwire::api::Type;

use super::super::commands::{self, ClientCommand, ClientStatement};
use super::super::failure::{Failure, Unanswered, warning};
use super::super::rows::Layout;
use super::super::settings::SessionSettings;
use super::super::wire::{Stop, Wire};
use super::answers::PortalRun;
use super::portal::{OpenAnswer, Portal, PortalAnswer};
use super::sizes::{self, HELD, SAVEPOINTS};
use super::{HeldSettings, PostgresSession, Savepoint, TransactionBlock};
use crate::Error;

/// The name under which the frontier of the last answer is shown.
const FRONTIER: &str = "thalweg.frontier";

impl PostgresSession {
    /// The columns of a statement of the session; `None` if it has no rows.
    pub(super) fn local_columns(&self, command: &ClientCommand) -> Option<SchemaRef> {
        let columns: &[&str] = match command {
            ClientCommand::Show(Some(name)) => &[name.as_str()],
            ClientCommand::Show(None) => &["name", "setting", "description"],
            ClientCommand::UnlockAll => &["pg_advisory_unlock_all"],
            ClientCommand::BackendPid => &["pg_backend_pid"],
            _ => return None,
        };
        let data_type = if *command == ClientCommand::BackendPid { DataType::Int32 } else { DataType::Utf8 };
        let fields = columns.iter().map(|name| Field::new(*name, data_type.clone(), true));
        Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    pub(super) async fn run_local(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        command: &ClientCommand,
        most: Option<usize>,
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        let tag = match command {
            ClientCommand::Show(_) | ClientCommand::UnlockAll | ClientCommand::BackendPid => {
                return self.show(wire, portal, command, most, stop).await;
            }
            ClientCommand::Begin => self.begin_block(wire)?,
            ClientCommand::Commit => match &self.block {
                Some(TransactionBlock { failed: true, .. }) => {
                    self.end_block(wire, false)?;
                    "ROLLBACK"
                }
                Some(_) => {
                    self.end_block(wire, true)?;
                    "COMMIT"
                }
                None => {
                    wire.send(&warning("there is no transaction in progress"))?;
                    "COMMIT"
                }
            },
            ClientCommand::Rollback => {
                if self.block.is_none() {
                    wire.send(&warning("there is no transaction in progress"))?;
                }
                self.end_block(wire, false)?;
                "ROLLBACK"
            }
            ClientCommand::Savepoint(name) => self.savepoint(name)?,
            ClientCommand::Release(name) => {
                let (block, at) = self.saved("RELEASE SAVEPOINT", name)?;
                block.savepoints.truncate(at);
                "RELEASE"
            }
            ClientCommand::RollbackTo(name) => {
                let (block, at) = self.saved("ROLLBACK TO SAVEPOINT", name)?;
                block.savepoints.truncate(at + 1);
                block.failed = false;
                let saved = &block.savepoints[at];
                block.committed = Arc::clone(&saved.committed);
                let settings = Arc::clone(&saved.settings);
                self.change(wire, settings)?;
                "ROLLBACK"
            }
            ClientCommand::Nothing(tag) => *tag,
            ClientCommand::Refuse(failure) => return Err(failure.clone().into()),
            command => self.run_kept(wire, portal, command)?,
        };
        Ok(PortalRun::done(tag))
    }

    /// Statements that change what the session keeps.
    fn run_kept(
        &mut self,
        wire: &mut Wire,
        portal: &Portal,
        command: &ClientCommand,
    ) -> Result<&'static str, Unanswered> {
        Ok(match command {
            ClientCommand::Set { local, name, value } => {
                self.set(wire, *local, name, value.as_deref())?;
                "SET"
            }
            ClientCommand::Reset(name) => {
                self.alter(wire, false, |settings| settings.reset(name.as_deref()))?;
                "RESET"
            }
            ClientCommand::Discard { all } => {
                if *all {
                    if self.block.is_some() {
                        let failure = Failure::new("25001", "DISCARD ALL cannot run inside a transaction block");
                        return Err(failure.into());
                    }
                    self.portals.clear();
                    self.statements.clear();
                    self.alter(wire, false, |settings| settings.reset(None))?;
                }
                if *all { "DISCARD ALL" } else { "DISCARD" }
            }
            ClientCommand::Prepare { name, types } => {
                self.prepare(portal, name, types)?;
                "PREPARE"
            }
            ClientCommand::Deallocate(Some(name)) => {
                self.prepared(name)?;
                self.statements.remove(name);
                "DEALLOCATE"
            }
            ClientCommand::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            ClientCommand::CloseCursor(Some(name)) => {
                self.cursor(name)?;
                self.portals.remove(name);
                "CLOSE CURSOR"
            }
            ClientCommand::CloseCursor(None) => {
                self.portals.clear();
                "CLOSE CURSOR ALL"
            }
            _ => "",
        })
    }

    fn begin_block(&mut self, wire: &mut Wire) -> Result<&'static str, Unanswered> {
        match &self.block {
            Some(_) => wire.send(&warning("there is already a transaction in progress"))?,
            None => {
                let (before, committed) = (Arc::clone(&self.settings), Arc::clone(&self.settings));
                self.block = Some(TransactionBlock { failed: false, before, committed, savepoints: Vec::new() });
            }
        }
        Ok("BEGIN")
    }

    /// Errors: a failure if no transaction block is open.
    fn in_block(&mut self, statement: &str) -> Result<&mut TransactionBlock, Failure> {
        let outside = || Failure::new("25P01", format!("{statement} can only be used in transaction blocks"));
        self.block.as_mut().ok_or_else(outside)
    }

    fn savepoint(&mut self, name: &str) -> Result<&'static str, Failure> {
        let held = self.budget.hold(name.len() + HELD)?;
        let settings = Arc::clone(&self.settings);
        let block = self.in_block("SAVEPOINT")?;
        sizes::check(block.savepoints.len(), SAVEPOINTS, "savepoints", "release some")?;
        let committed = Arc::clone(&block.committed);
        block.savepoints.push(Savepoint { name: name.to_owned(), settings, committed, _held: held });
        Ok("SAVEPOINT")
    }

    /// The transaction block, and the place of the newest savepoint of this name.
    ///
    /// Errors: a failure if there is none.
    fn saved(&mut self, statement: &str, name: &str) -> Result<(&mut TransactionBlock, usize), Failure> {
        let block = self.in_block(statement)?;
        match block.savepoints.iter().rposition(|savepoint| savepoint.name == name) {
            Some(at) => Ok((block, at)),
            None => Err(Failure::new("3B001", format!("savepoint \"{name}\" does not exist"))),
        }
    }

    fn set(&mut self, wire: &mut Wire, local: bool, name: &str, value: Option<&str>) -> Result<(), Unanswered> {
        if name.eq_ignore_ascii_case(FRONTIER) {
            return Err(Failure::new("55P02", format!("parameter \"{FRONTIER}\" cannot be changed")).into());
        }
        if local && self.block.is_none() {
            return wire.send(&warning("SET LOCAL can only be used in transaction blocks"));
        }
        self.alter(wire, local, |settings| match value {
            Some(value) => settings.set(name, value).map(|_| ()),
            None => settings.reset(Some(name)),
        })
    }

    /// Alters the settings; a block keeps what is not `local`.
    fn alter(
        &mut self,
        wire: &mut Wire,
        local: bool,
        change: impl Fn(&mut SessionSettings) -> Result<(), Failure>,
    ) -> Result<(), Unanswered> {
        let altered = |of: &HeldSettings| {
            let mut settings = of.settings.clone();
            change(&mut settings)?;
            HeldSettings::new(settings, &self.budget)
        };
        let settings = altered(&self.settings)?;
        let committed = match &self.block {
            Some(block) if !local => Some(altered(&block.committed)?),
            _ => None,
        };
        if let (Some(block), Some(committed)) = (&mut self.block, committed) {
            block.committed = committed;
        }
        self.change(wire, settings)
    }

    async fn show(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        command: &ClientCommand,
        most: Option<usize>,
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        if matches!(portal.answer, PortalAnswer::NotAsked) {
            let Some(schema) = self.local_columns(command) else { return Ok(PortalRun::default()) };
            let batch = RecordBatch::try_new(Arc::clone(&schema), self.shown(command)?);
            let batch = batch.map_err(|error| Failure::of(&Error::Encode(error), "", 0))?;
            portal.check_columns(&schema, self.catalog_version())?;
            portal.answer = PortalAnswer::Open(Box::new(OpenAnswer {
                schema,
                batches: Box::pin(stream::iter([Ok(batch)])),
                memory: None,
                current: None,
                is_large: false,
                until: None,
            }));
        }
        let layout = Layout::Rows(portal.formats.clone());
        let (rows, ended) = self.pump(wire, portal, Some(layout), most, stop).await?;
        let tag = if matches!(command, ClientCommand::Show(_)) { "SHOW".to_owned() } else { format!("SELECT {rows}") };
        Ok(if ended { PortalRun::done(tag) } else { PortalRun { tags: Vec::new(), suspended: true } })
    }

    fn shown(&self, command: &ClientCommand) -> Result<Vec<ArrayRef>, Failure> {
        let one = |text: String| -> Vec<ArrayRef> { vec![Arc::new(StringArray::from(vec![text]))] };
        match command {
            ClientCommand::Show(Some(name)) if name.eq_ignore_ascii_case(FRONTIER) => {
                let text = serde_json::to_string(&self.frontier.clone().unwrap_or_default());
                text.map(one).map_err(|error| Failure::new("XX000", error.to_string()))
            }
            ClientCommand::Show(Some(name)) => self.settings.settings.show(name).map(one),
            ClientCommand::Show(None) => {
                let all = self.settings.settings.all();
                let column = |text: fn(&(String, String)) -> &str| -> ArrayRef {
                    Arc::new(all.iter().map(|setting| Some(text(setting))).collect::<StringArray>())
                };
                Ok(vec![column(|s| &s.0), column(|s| &s.1), column(|_| "")])
            }
            // The number under which the client may cancel.
            ClientCommand::BackendPid => Ok(vec![Arc::new(Int32Array::from(vec![self.interrupt.number]))]),
            _ => Ok(one(String::new())),
        }
    }

    /// PREPARE as a statement of SQL.
    fn prepare(&mut self, portal: &Portal, name: &str, types: &[String]) -> Result<(), Failure> {
        let Some(outer) = &portal.prepared.statement else { return Ok(()) };
        if self.statements.contains_key(name) {
            return Err(Failure::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        let mut statements = commands::read(&outer.sql);
        let statement = match (statements.pop(), statements.pop()) {
            (Some(statement), None) => ClientStatement { before: outer.before + statement.before, ..statement },
            _ => return Err(Failure::syntax("PREPARE takes one statement, as in PREPARE q AS SELECT 1")),
        };
        let types = types.iter().map(|name| named(name)).collect();
        self.keep_statement(name.to_owned(), Some(statement), types, None)?;
        Ok(())
    }

    /// DECLARE: a portal with a name, whose query is started.
    pub(super) async fn declare(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        name: &str,
        hold: bool,
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        if self.block.is_none() && !hold {
            let failure = Failure::new("25P01", "DECLARE CURSOR can only be used in transaction blocks");
            return Err(failure.hint("Send BEGIN first, or declare the cursor WITH HOLD.").into());
        }
        if self.portals.contains_key(name) {
            return Err(Failure::new("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        self.check_portals(name)?;
        let held = self.budget.hold(sizes::values(&portal.values) + name.len() + HELD)?;
        let mut cursor = Portal::new(Arc::clone(&portal.prepared), portal.values.clone(), Default::default());
        cursor.hold = hold;
        cursor.values_held = Some(held);
        self.open(wire, &mut cursor, stop).await?;
        self.portals.insert(name.to_owned(), cursor);
        Ok(PortalRun::done("DECLARE CURSOR"))
    }
}

/// The type of a name in `PREPARE q (name)`; the query decides where it is not known.
fn named(name: &str) -> Option<Type> {
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "bool" | "boolean" => Type::BOOL,
        "smallint" | "int2" => Type::INT2,
        "int" | "integer" | "int4" => Type::INT4,
        "bigint" | "int8" => Type::INT8,
        "real" | "float4" => Type::FLOAT4,
        "float" | "float8" | "double precision" => Type::FLOAT8,
        "numeric" | "decimal" => Type::NUMERIC,
        "text" | "varchar" | "string" => Type::TEXT,
        "date" => Type::DATE,
        "time" => Type::TIME,
        "timestamp" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "bytea" => Type::BYTEA,
        _ => return None,
    })
}
