//! The simple protocol: a text of statements, answered in order; an error ends the text.

use std::sync::Arc;

use pgwire::messages::response::EmptyQueryResponse;

use super::super::budget::{Budget, BudgetShare};
use super::super::commands::{self, ClientStatement};
use super::super::failure::{Failure, Unanswered};
use super::super::types::{self, Formats};
use super::super::wire::{Stop, Wire};
use super::portal::{Portal, PreparedStatement};
use super::{PostgresSession, complete};
use crate::limits::text::refuse_long;

/// The length in bytes from which a text, or the values of a message, are read on a thread for blocking work.
pub(super) const LONG_TEXT: usize = 64 << 10;

impl PostgresSession {
    pub(super) async fn simple(&mut self, wire: &mut Wire, text: &str) -> Result<(), Unanswered> {
        self.statements.remove("");
        self.portals.remove("");
        let statements = split(&self.budget, text).await?;
        if statements.is_empty() {
            wire.send(&EmptyQueryResponse::new())?;
        }
        for (statement, held) in statements {
            let stop = self.begin();
            let answered = self.one(wire, statement, held, &stop).await;
            self.interrupt.end();
            answered?;
            wire.flush_piece().await?;
        }
        self.leave_portals();
        self.ready(wire).await
    }

    async fn one(
        &mut self,
        wire: &mut Wire,
        statement: ClientStatement,
        held: BudgetShare,
        stop: &Stop,
    ) -> Result<(), Unanswered> {
        self.check_block(&statement.command)?;
        let prepared = PreparedStatement::new(Some(statement), Vec::new(), held);
        let mut portal = self.portal(Arc::new(prepared), Vec::new(), Formats::default())?;
        if let Some(schema) = self.columns(wire, &mut portal, stop).await? {
            wire.send(&types::description(&schema, &portal.formats))?;
        }
        let run = self.run(wire, &mut portal, None, stop).await?;
        for tag in run.tags {
            complete(wire, tag)?;
        }
        Ok(())
    }

    /// A portal of `prepared`. That of EXECUTE is one of the statement that is executed.
    ///
    /// Errors: a failure if there is no such statement.
    pub(super) fn portal(
        &self,
        prepared: Arc<PreparedStatement>,
        values: Vec<crate::parameters::Parameter>,
        formats: Formats,
    ) -> Result<Portal, Failure> {
        use crate::parameters::Parameter;
        match prepared.statement.as_ref().map(|statement| &statement.command) {
            Some(commands::ClientCommand::Execute { name, values }) => {
                let executed = self.prepared(name)?;
                let texts = values.iter().enumerate().map(|(at, value)| match value {
                    Some(text) => match executed.types.get(at) {
                        Some(Some(given)) => {
                            let read = super::super::parameters::read(Some(given), false, &text.clone().into());
                            read.map_err(|reason| Failure::new("22P02", format!("${}: {reason}", at + 1)))
                        }
                        _ => Ok(Parameter::Text(text.clone())),
                    },
                    None => Ok(Parameter::Null),
                });
                let values = texts.collect::<Result<_, _>>()?;
                Ok(Portal::new(executed, values, formats))
            }
            _ => Ok(Portal::new(prepared, values, formats)),
        }
    }

    /// Errors: a failure if there is no prepared statement of this name.
    pub(super) fn prepared(&self, name: &str) -> Result<Arc<PreparedStatement>, Failure> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| Failure::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }
}

/// The statements of `text`, and what counts for each; a long text is read where it keeps nobody waiting.
///
/// Errors: a failure for a text that is too long.
pub(super) async fn split(budget: &Budget, text: &str) -> Result<Vec<(ClientStatement, BudgetShare)>, Failure> {
    refuse_long(text).map_err(|error| Failure::of(&error, "", 0))?;
    let statements = if text.len() < LONG_TEXT {
        commands::read(text)
    } else {
        let _place = budget.long_text().await;
        let text = text.to_owned();
        let read = tokio::task::spawn_blocking(move || commands::read(&text)).await;
        read.map_err(|error| Failure::new("XX000", error.to_string()))?
    };
    let held = statements.into_iter().map(|statement| {
        let bytes = statement.bytes();
        Ok((statement, budget.hold(bytes)?))
    });
    held.collect()
}
