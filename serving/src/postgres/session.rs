//! The session of one connection: its settings, transaction block, prepared statements and portals.
//!
//! Invariant: nothing of a session is shared with another one.

mod portal;
mod sizes;

mod changes;

mod answers;
mod local;

mod simple;

mod extended;

use std::collections::HashMap;
use std::sync::Arc;

use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use thalweg_schemas::api::sql::Frontiers;
use tokio::time::Instant;

use self::portal::{Portal, PreparedStatement};
use super::budget::{Budget, BudgetShare};
use super::clients::Interrupt;
use super::commands::ClientCommand;
use super::failure::{Failure, Unanswered};
use super::requests::Request;
use super::settings::SessionSettings;
use super::wire::{Stop, Wire};
use crate::access::AccessDenied;
use crate::activity::{ListedSession, Protocol, RequestClient};
use crate::changes::ChangeFeeds;
use crate::engine::Engine;
use crate::options::Options;

/// The state of one connection.
pub(super) struct PostgresSession {
    engine: Arc<Engine>,
    feeds: Arc<ChangeFeeds>,
    /// Why the client may not change definitions.
    denied: Option<AccessDenied>,
    interrupt: Arc<Interrupt>,
    /// The session as others see it.
    listed: ListedSession,
    budget: Budget,
    settings: Arc<HeldSettings>,
    block: Option<TransactionBlock>,
    statements: HashMap<String, Arc<PreparedStatement>>,
    portals: HashMap<String, Portal>,
    /// The frontier of the last answer.
    frontier: Option<Frontiers>,
    /// True after an error, until the client sends Sync.
    skips: bool,
}

/// A transaction block. Queries need none; clients expect that it keeps settings and portals.
struct TransactionBlock {
    failed: bool,
    /// The settings after a ROLLBACK, and after a COMMIT.
    before: Arc<HeldSettings>,
    committed: Arc<HeldSettings>,
    savepoints: Vec<Savepoint>,
}

/// What ROLLBACK TO gives back.
struct Savepoint {
    name: String,
    settings: Arc<HeldSettings>,
    committed: Arc<HeldSettings>,
    _held: BudgetShare,
}

/// Settings, and what counts for them.
struct HeldSettings {
    settings: SessionSettings,
    _held: BudgetShare,
}

impl HeldSettings {
    fn new(settings: SessionSettings, budget: &Budget) -> Result<Arc<Self>, Failure> {
        let held = budget.hold(settings.bytes())?;
        Ok(Arc::new(Self { settings, _held: held }))
    }
}

impl PostgresSession {
    pub(super) fn new(
        engine: Arc<Engine>,
        feeds: Arc<ChangeFeeds>,
        denied: Option<AccessDenied>,
        interrupt: Arc<Interrupt>,
        listed: ListedSession,
        budget: Budget,
        settings: SessionSettings,
    ) -> Result<Self, Failure> {
        let settings = HeldSettings::new(settings, &budget)?;
        Ok(Self {
            engine,
            feeds,
            denied,
            interrupt,
            listed,
            budget,
            settings,
            block: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            frontier: None,
            skips: false,
        })
    }

    /// True if messages of the extended protocol are skipped until a Sync.
    pub(super) fn skips(&self, kind: u8) -> bool {
        self.skips && kind != b'S' && kind != b'X'
    }

    /// Answers one message.
    ///
    /// Errors: [`Unanswered`]; the caller tells the client with [`Self::fail`].
    pub(super) async fn answer(&mut self, wire: &mut Wire, request: Request) -> Result<(), Unanswered> {
        match request {
            Request::Query(text) => self.simple(wire, &text).await,
            Request::Parse { name, sql, types } => self.parse(wire, name, &sql, &types).await,
            Request::Bind(bind) => self.bind(wire, bind).await,
            Request::Describe { target, name } => self.describe(wire, target, &name).await,
            Request::Execute { portal, rows } => self.execute(wire, &portal, rows).await,
            Request::Close { target, name } => self.close(wire, target, &name),
            Request::Flush => wire.flush().await,
            Request::Sync => {
                self.skips = false;
                self.leave_portals();
                self.ready(wire).await
            }
            Request::Terminate | Request::CopyIn => Ok(()),
        }
    }

    /// Tells the client of a failure and fails the transaction block.
    pub(super) async fn fail(&mut self, wire: &mut Wire, failure: &Failure, kind: u8) -> Result<(), Unanswered> {
        wire.send(&failure.response("ERROR"))?;
        if let Some(block) = &mut self.block {
            block.failed = true;
        }
        if Request::is_extended(kind) {
            self.skips = true;
            return Ok(());
        }
        self.leave_portals();
        self.ready(wire).await
    }

    async fn ready(&mut self, wire: &mut Wire) -> Result<(), Unanswered> {
        let status = match &self.block {
            None => TransactionStatus::Idle,
            Some(TransactionBlock { failed: true, .. }) => TransactionStatus::Error,
            Some(_) => TransactionStatus::Transaction,
        };
        wire.send(&ReadyForQuery::new(status))?;
        wire.flush().await
    }

    /// Begins to run a statement.
    fn begin(&self) -> Stop {
        let until = self.settings.settings.timeout().map(|timeout| Instant::now() + timeout);
        Stop { token: self.interrupt.begin(), until }
    }

    /// Errors: a failure if the transaction block has failed and `command` does not end it.
    fn check_block(&self, command: &ClientCommand) -> Result<(), Failure> {
        let failed = self.block.as_ref().is_some_and(|block| block.failed);
        match command {
            ClientCommand::Rollback | ClientCommand::Commit | ClientCommand::RollbackTo(_) => Ok(()),
            _ if failed => Err(Failure::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// The options of a query of this session.
    fn options(&self) -> Options {
        let client = RequestClient { protocol: Protocol::Postgres, session: Some(self.listed.id()) };
        Options { definitions: self.denied, client, ..self.settings.settings.options().clone() }
    }

    /// The end of the first portal whose query is under way: its time is over then.
    pub(super) fn portals_end(&self) -> Option<Instant> {
        self.portals.values().filter_map(Portal::until).min()
    }

    /// Ends the queries whose time is over.
    pub(super) fn end_overdue(&mut self) {
        let now = Instant::now();
        for portal in self.portals.values_mut().filter(|portal| portal.until().is_some_and(|until| until <= now)) {
            portal.expire();
        }
    }

    /// Drops the portals that end with a transaction, unless one is open.
    fn leave_portals(&mut self) {
        if self.block.is_none() {
            self.portals.retain(|_, portal| portal.hold);
        }
    }

    /// Ends the transaction block, with the settings that hold from now on.
    fn end_block(&mut self, wire: &mut Wire, commits: bool) -> Result<(), Unanswered> {
        if let Some(block) = self.block.take() {
            let settings = if commits { block.committed } else { block.before };
            self.change(wire, settings)?;
        }
        self.leave_portals();
        Ok(())
    }

    /// Changes the settings, and tells the client of those that it follows.
    fn change(&mut self, wire: &mut Wire, settings: Arc<HeldSettings>) -> Result<(), Unanswered> {
        for (name, value) in settings.settings.changes(&self.settings.settings) {
            if name == "application_name" {
                self.listed.rename(&value);
            }
            wire.send(&ParameterStatus::new(name, value))?;
        }
        self.settings = settings;
        Ok(())
    }
}

fn complete(wire: &mut Wire, tag: impl Into<String>) -> Result<(), Unanswered> {
    wire.send(&CommandComplete::new(tag.into()))
}
