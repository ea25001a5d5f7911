//! A session of a person or a script with a server: statements, commands, and the settings that commands change.
//!
//! Invariant: a session has no state on the server; dropping its running work also ends that work on the server.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use clap::{Args, FromArgMatches};

use super::ask::{self, Begun, Wishes};
use super::commands::{self, ShellCommand};
use super::names::SharedNames;
use super::render::{self, OutputFormat};
use super::script::{self, InnerScript, SqlScript};
use super::split;
use super::{describe, pager};
use crate::client::Client;
use crate::commands::status;
use crate::terminal;

/// The deepest nesting of included files.
const DEEPEST: usize = 16;

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) names: SharedNames,
    pub(super) format: OutputFormat,
    pub(super) expanded: bool,
    pub(super) timing: bool,
    /// True to show output in the pager if it is too long for the screen.
    pub(super) paging: bool,
    pub(super) wishes: Wishes,
    /// The newest query, for `\watch`.
    last: Option<String>,
    depth: usize,
}

/// What to do after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Quit,
}

impl Session {
    /// Creates a session for scripts: without timing and pager.
    pub(super) fn new(client: Client, url: String, format: OutputFormat) -> Self {
        Self {
            client,
            url,
            names: SharedNames::default(),
            format,
            expanded: false,
            timing: false,
            paging: false,
            wishes: Wishes::default(),
            last: None,
            depth: 0,
        }
    }

    /// Runs a statement and prints its answer.
    ///
    /// Errors: [`crate::client::Refused`] from the server, an unreachable server, a closed stdout.
    pub(super) async fn statement(&mut self, sql: &str) -> Result<()> {
        let started = Instant::now();
        if is_definition(sql) {
            self.print(sql, started).await?;
            // A failed refresh only makes completion less helpful.
            let _ = self.names.refresh_tables(&self.client).await;
            return Ok(());
        }
        self.last = Some(sql.to_owned());
        self.print(sql, started).await
    }

    async fn print(&self, sql: &str, started: Instant) -> Result<()> {
        let begun = ask::begin(&self.client, sql, self.accepted(), &self.wishes).await?;
        let standing = begun.standing.clone();
        let took = || self.timing.then(|| started.elapsed());
        if self.format == OutputFormat::Table {
            let answer = begun.answer(&self.client).await?;
            let took = took();
            self.show(&render::body(&answer, self.expanded))?;
            terminal::err(&render::count(answer.rows.len(), took));
        } else {
            self.stream(begun).await?;
            if let Some(took) = took() {
                terminal::err(&format!("({})", render::duration(took)));
            }
        }
        if let Some(standing) = standing {
            terminal::err(&standing);
        }
        Ok(())
    }

    fn accepted(&self) -> &'static str {
        match self.format {
            OutputFormat::Csv => "text/csv",
            OutputFormat::Table | OutputFormat::Json => "application/json",
        }
    }

    /// Prints the server's bytes unchanged: as they arrive, or at once for the pager.
    async fn stream(&self, mut begun: Begun) -> Result<()> {
        if self.paging {
            let mut whole = Vec::new();
            while let Some(chunk) = begun.chunk().await? {
                whole.extend_from_slice(chunk.as_ref());
            }
            return self.show(String::from_utf8_lossy(&whole).trim_end());
        }
        while let Some(chunk) = begun.chunk().await? {
            std::io::stdout().write_all(chunk.as_ref())?;
        }
        std::io::stdout().flush()?;
        Ok(())
    }

    /// Prints the output of a command; the pager blocks this task's thread until the user leaves it.
    pub(super) fn show(&self, text: &str) -> Result<()> {
        tokio::task::block_in_place(|| pager::show(text, self.paging))
    }

    /// Errors: the error of the command, or of the server.
    pub(super) async fn command(&mut self, command: ShellCommand) -> Result<Next> {
        match command {
            ShellCommand::Quit => return Ok(Next::Quit),
            ShellCommand::Help => self.show(&commands::help())?,
            ShellCommand::Timing(switch) => {
                switch.turn(&mut self.timing);
                said("timing", self.timing);
            }
            ShellCommand::Expanded(switch) => {
                switch.turn(&mut self.expanded);
                said("one line per column", self.expanded);
            }
            ShellCommand::Pager(switch) => {
                switch.turn(&mut self.paging);
                said("pager", self.paging);
            }
            ShellCommand::OutputFormat(format) => self.format = format,
            ShellCommand::Describe(None) => self.show(&describe::all(&self.client).await?)?,
            ShellCommand::Describe(Some(name)) => {
                self.show(&describe::one(&self.client, &name).await?)?;
            }
            ShellCommand::Streams(part) => self.show(&describe::streams(&self.client, part).await?)?,
            ShellCommand::Views(part) => self.show(&describe::views(&self.client, part).await?)?,
            ShellCommand::Functions(part) => {
                self.show(&describe::functions(&self.client, part).await?)?;
            }
            ShellCommand::Status(flags) => self.status(&flags).await?,
            ShellCommand::Watch(pause) => self.watch(pause).await?,
            ShellCommand::Include(file) => return self.include(&file).await,
        }
        Ok(Next::Go)
    }

    /// Runs `thalweg status` with these flags against this server.
    async fn status(&self, flags: &[String]) -> Result<()> {
        let token = self.client.token().into_iter().flat_map(|token| ["--token", token]);
        let line = ["--url", &self.url].into_iter().chain(token).chain(flags.iter().map(String::as_str));
        let command = status::Arguments::augment_args(clap::Command::new("status").no_binary_name(true));
        let read = command.try_get_matches_from(line);
        match read.and_then(|matches| status::Arguments::from_arg_matches(&matches)) {
            Ok(arguments) => status::run(arguments).await.map(|_| ()),
            Err(error) => {
                terminal::err(error.to_string().trim_end());
                Ok(())
            }
        }
    }

    /// Repeats the last query; ends by an error, or when dropped.
    async fn watch(&mut self, pause: Duration) -> Result<()> {
        let Some(sql) = self.last.clone() else {
            anyhow::bail!("there is no query to repeat yet; ask one, then \\watch");
        };
        let title = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        loop {
            let started = Instant::now();
            let begun = ask::begin(&self.client, &sql, "application/json", &self.wishes).await?;
            let standing = begun.standing.clone().unwrap_or_default();
            let answer = begun.answer(&self.client).await?;
            let (width, height) = pager::screen();
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            let every = humantime::format_duration(pause);
            let head = format!("{now}, every {every}: {title}");
            let count = render::count(answer.rows.len(), Some(started.elapsed()));
            let foot = format!("{count} {standing}");
            // Five lines are reserved: head, foot, two empty lines, and the line of the cursor.
            let body = render::body(&answer, self.expanded);
            let body = render::fit(&body, width, height.saturating_sub(5));
            let head = render::fit(&head, width, 1);
            terminal::out(&format!("\x1b[H\x1b[2J{head}\n\n{body}\n\n{foot}"))?;
            tokio::time::sleep(pause.saturating_sub(started.elapsed())).await;
        }
    }

    async fn include(&mut self, file: &Path) -> Result<Next> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| anyhow::anyhow!("{name} cannot be read: {e}"))?;
        if self.depth == DEEPEST {
            anyhow::bail!("{name}: files include each other more than {DEEPEST} deep");
        }
        let script = SqlScript::new(&name, text);
        self.depth += 1;
        let end = Box::pin(script::run(self, &script, false)).await;
        self.depth -= 1;
        match end? {
            end if end.failed => Err(InnerScript.into()),
            end if end.quit => Ok(Next::Quit),
            _ => Ok(Next::Go),
        }
    }

    /// Resets the state after an interrupted command.
    pub(super) fn reset(&mut self) {
        self.depth = 0;
    }
}

fn said(what: &str, on: bool) {
    terminal::err(&format!("{what} is {}", if on { "on" } else { "off" }));
}

fn is_definition(sql: &str) -> bool {
    let first = split::first_word(sql);
    first.is_some_and(|word| ["create", "drop"].iter().any(|of_definitions| word.eq_ignore_ascii_case(of_definitions)))
}
