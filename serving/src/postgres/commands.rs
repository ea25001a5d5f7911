//! The statements of a text, and which of them the session answers by itself.
//!
//! Decisions only. Whatever is not known here goes to the engine unchanged, so that its sentence is the answer.

mod literals;

mod words;

mod copy;

pub(super) use self::copy::query;
use self::words::StatementWords;
use super::failure::Failure;
use super::rows::CopyLayout;

/// A statement of a client's text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClientStatement {
    pub(super) command: ClientCommand,
    /// The text that the engine gets, if it gets any.
    pub(super) sql: String,
    /// Characters of the client's text before `sql`.
    pub(super) before: usize,
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientCommand {
    /// A query of the engine; its answer has rows, and ends with a tag.
    Query {
        tag: &'static str,
    },
    /// Definitions, each with its tag. Those that follow each other are applied together.
    Define {
        tags: Vec<String>,
    },
    /// COPY of a query to the client.
    Copy(CopyLayout),
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Set {
        local: bool,
        name: String,
        value: Option<String>,
    },
    Reset(Option<String>),
    /// `None` shows all.
    Show(Option<String>),
    Discard {
        all: bool,
    },
    Prepare {
        name: String,
        types: Vec<String>,
    },
    /// EXECUTE of a prepared statement; `None` is NULL.
    Execute {
        name: String,
        values: Vec<Option<String>>,
    },
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
    },
    /// `None` fetches all.
    Fetch {
        name: String,
        rows: Option<usize>,
        moves: bool,
    },
    CloseCursor(Option<String>),
    /// Does nothing here, and has a tag.
    Nothing(&'static str),
    /// A function without a meaning here, which pools of connections call; it has one row.
    UnlockAll,
    /// The number of the connection, when it is asked for alone.
    BackendPid,
    Refuse(Failure),
}

impl ClientCommand {
    /// True if a portal of the statement goes on where it was left.
    pub(super) fn is_read_in_parts(&self) -> bool {
        use ClientCommand as C;
        matches!(self, C::Query { .. } | C::Show(_) | C::UnlockAll | C::BackendPid)
    }

    /// Bytes of the texts within.
    fn bytes(&self) -> usize {
        use ClientCommand as C;
        let each = size_of::<String>();
        match self {
            C::Define { tags } => tags.iter().map(|tag| tag.len() + each).sum(),
            C::Set { name, value, .. } => name.len() + value.as_ref().map_or(0, String::len),
            C::Prepare { name, types } => name.len() + types.iter().map(|name| name.len() + each).sum::<usize>(),
            C::Execute { name, values } => {
                name.len() + values.iter().map(|value| value.as_ref().map_or(0, String::len) + each).sum::<usize>()
            }
            C::Savepoint(name) | C::Release(name) | C::RollbackTo(name) => name.len(),
            C::Reset(name) | C::Show(name) | C::Deallocate(name) | C::CloseCursor(name) => {
                name.as_ref().map_or(0, String::len)
            }
            C::Declare { name, .. } | C::Fetch { name, .. } => name.len(),
            C::Copy(layout) => layout.null.len(),
            C::Refuse(failure) => failure.message.len(),
            C::Query { .. } | C::Begin | C::Commit | C::Rollback | C::Discard { .. } => 0,
            C::Nothing(_) | C::UnlockAll | C::BackendPid => 0,
        }
    }
}

impl ClientStatement {
    /// The bytes that the statement takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.sql.len() + self.command.bytes()
    }
}

/// The statements of `text`.
pub(super) fn read(text: &str) -> Vec<ClientStatement> {
    let mut found: Vec<(ClientCommand, usize, usize)> = Vec::new();
    for words in words::statements(text) {
        let command = command(&words).unwrap_or_else(|| engine_command(&words));
        match (&command, found.last_mut()) {
            // Definitions that follow each other are one change of the catalog.
            (ClientCommand::Define { tags }, Some((ClientCommand::Define { tags: before }, _, to)))
                if !tags.iter().chain(&*before).any(|tag| tag == COPY) =>
            {
                before.extend_from_slice(tags);
                *to = words.end();
            }
            _ => {
                let (from, to) = words.inner(&command);
                found.push((command, from, to));
            }
        }
    }
    let (mut before, mut counted) = (0, 0);
    let statements = found.into_iter().map(|(command, from, to)| {
        before += text[counted..from].chars().count();
        counted = from;
        ClientStatement { command, sql: text[from..to].to_owned(), before }
    });
    statements.collect()
}

impl StatementWords<'_> {
    /// The range of the text that the engine gets.
    fn inner(&self, command: &ClientCommand) -> (usize, usize) {
        let from = match command {
            ClientCommand::Prepare { .. } => self.behind("AS"),
            ClientCommand::Declare { .. } => self.behind("FOR"),
            ClientCommand::Copy(_) => return copy::query_of(self),
            _ => None,
        };
        (from.unwrap_or_else(|| self.start()), self.end())
    }
}

/// The tag of a COPY that loads files. It is sent on its own.
const COPY: &str = "COPY";

/// The statement as one of the engine.
fn engine_command(words: &StatementWords<'_>) -> ClientCommand {
    if copy::reads_files(words) {
        return ClientCommand::Define { tags: vec![COPY.to_owned()] };
    }
    const DEFINE: [&str; 8] = ["CREATE", "DROP", "ALTER", "COMMENT", "GRANT", "REVOKE", "TRUNCATE", "REFRESH"];
    if DEFINE.iter().any(|word| words.starts(&[word])) {
        return ClientCommand::Define { tags: vec![tag(words)] };
    }
    let tag = match words.keyword(0).as_str() {
        "EXPLAIN" => "EXPLAIN",
        "SHOW" | "DESCRIBE" | "DESC" => "SHOW",
        _ => "SELECT",
    };
    ClientCommand::Query { tag }
}

/// The tag of a definition, such as CREATE MATERIALIZED VIEW.
fn tag(words: &StatementWords<'_>) -> String {
    const OBJECT: [&str; 7] = ["EXTERNAL", "MATERIALIZED", "TABLE", "VIEW", "FUNCTION", "ROLE", "POLICY"];
    const BETWEEN: [&str; 5] = ["OR", "REPLACE", "UNBOUNDED", "TEMPORARY", "TEMP"];
    let mut tag = words.keyword(0);
    for word in (1..words.len()).map(|at| words.keyword(at)) {
        if OBJECT.contains(&word.as_str()) {
            tag = format!("{tag} {word}");
        } else if !BETWEEN.contains(&word.as_str()) {
            break;
        }
    }
    tag
}

/// The statement as one of the session; `None` if it is not.
fn command(words: &StatementWords<'_>) -> Option<ClientCommand> {
    Some(match words.keyword(0).as_str() {
        "BEGIN" => ClientCommand::Begin,
        "START" if words.starts(&["START", "TRANSACTION"]) => ClientCommand::Begin,
        "COMMIT" | "END" if !words.starts(&["COMMIT", "PREPARED"]) => ClientCommand::Commit,
        "ABORT" => ClientCommand::Rollback,
        "ROLLBACK" if words.has("TO") => {
            savepoint(words, words.position("TO").map_or(0, |at| at + 1), ClientCommand::RollbackTo)
        }
        "ROLLBACK" => ClientCommand::Rollback,
        "SAVEPOINT" => savepoint(words, 1, ClientCommand::Savepoint),
        "RELEASE" => savepoint(words, 1, ClientCommand::Release),
        "SET" => return set(words),
        "RESET" => ClientCommand::Reset(words.rest_of_name(1).filter(|name| !name.eq_ignore_ascii_case("all"))),
        "SHOW" => return show(words),
        "DISCARD" => ClientCommand::Discard { all: words.keyword(1) == "ALL" },
        "PREPARE" => return prepare(words),
        "EXECUTE" => execute(words),
        "DEALLOCATE" => {
            let at = if words.keyword(1) == "PREPARE" { 2 } else { 1 };
            ClientCommand::Deallocate((words.keyword(at) != "ALL").then(|| words.name(at)).flatten())
        }
        "DECLARE" => return declare(words),
        "FETCH" => fetch(words, false),
        "MOVE" => fetch(words, true),
        "CLOSE" => ClientCommand::CloseCursor((words.keyword(1) != "ALL").then(|| words.name(1)).flatten()),
        "COPY" => return copy::read(words),
        "UNLISTEN" => ClientCommand::Nothing("UNLISTEN"),
        "LISTEN" | "NOTIFY" => ClientCommand::Refuse(
            Failure::unsupported("LISTEN and NOTIFY are not supported: there are no notifications")
                .hint("Ask for a view again; SHOW thalweg.frontier tells whether its streams have moved."),
        ),
        "LOCK" => {
            ClientCommand::Refuse(Failure::unsupported("LOCK is not supported: queries never wait for each other"))
        }
        "SELECT" if words.is(&["SELECT", "pg_advisory_unlock_all", "(", ")"]) => ClientCommand::UnlockAll,
        "SELECT" if words.is(&["SELECT", "pg_backend_pid", "(", ")"]) => ClientCommand::BackendPid,
        _ => return None,
    })
}

/// A statement that ends with `[SAVEPOINT] name`, from a word on.
fn savepoint(words: &StatementWords<'_>, at: usize, command: impl Fn(String) -> ClientCommand) -> ClientCommand {
    let at = if words.keyword(at) == "SAVEPOINT" && words.len() > at + 1 { at + 1 } else { at };
    match words.name(at) {
        Some(name) if words.len() == at + 1 => command(name),
        _ => ClientCommand::Refuse(Failure::syntax("a savepoint has a name, as in SAVEPOINT s and ROLLBACK TO s")),
    }
}

/// SET; what the session does not know goes to the engine.
fn set(words: &StatementWords<'_>) -> Option<ClientCommand> {
    let local = words.keyword(1) == "LOCAL";
    let at = if local || words.keyword(1) == "SESSION" { 2 } else { 1 };
    let one = |name: &str, value: Option<String>| Some(ClientCommand::Set { local, name: name.to_owned(), value });
    match words.keyword(at).as_str() {
        "TRANSACTION" | "CHARACTERISTICS" => return Some(ClientCommand::Nothing("SET")),
        "TIME" if words.keyword(at + 1) == "ZONE" => return one("TimeZone", words.value(at + 2)),
        "NAMES" => return one("client_encoding", words.value(at + 1)),
        _ => {}
    }
    let (name, behind) = words.dotted(at)?;
    let assigns = words.text(behind) == "=" || words.keyword(behind) == "TO";
    if !assigns || !super::settings::SessionSettings::knows(&name) {
        return None;
    }
    let value = words.value(behind + 1)?;
    let is_default = words.keyword(behind + 1) == "DEFAULT" && words.len() == behind + 2;
    one(&name, (!is_default).then_some(value))
}

fn show(words: &StatementWords<'_>) -> Option<ClientCommand> {
    match words.keyword(1).as_str() {
        "ALL" if words.len() == 2 => return Some(ClientCommand::Show(None)),
        "TIME" if words.keyword(2) == "ZONE" => return Some(ClientCommand::Show(Some("TimeZone".into()))),
        "TRANSACTION" if words.keyword(2) == "ISOLATION" => {
            return Some(ClientCommand::Show(Some("transaction_isolation".into())));
        }
        _ => {}
    }
    let (name, behind) = words.dotted(1)?;
    let is_ours = behind == words.len() && super::settings::SessionSettings::knows(&name);
    is_ours.then_some(ClientCommand::Show(Some(name)))
}

/// `PREPARE name (types) AS statement`
fn prepare(words: &StatementWords<'_>) -> Option<ClientCommand> {
    let name = words.name(1)?;
    words.behind("AS")?;
    let ranges = if words.text(2) == "(" { words.list(3) } else { Vec::new() };
    let types = ranges.into_iter().map(|range| range.map(|at| words.text(at)).collect::<Vec<_>>().join(" "));
    Some(ClientCommand::Prepare { name, types: types.collect() })
}

/// `EXECUTE name (values)`
fn execute(words: &StatementWords<'_>) -> ClientCommand {
    let refuse = || {
        ClientCommand::Refuse(Failure::unsupported(
            "EXECUTE takes a name and constants, as in EXECUTE q ('d1', 5, NULL)",
        ))
    };
    let Some(name) = words.name(1) else { return refuse() };
    let values = match words.text(2) {
        "(" => {
            let ranges = words.list(3);
            // The list is closed, and nothing stands behind its end.
            let end = ranges.last().map_or(3, |range| range.end);
            let is_whole = words.text(end) == ")" && words.len() == end + 1;
            let values = ranges.into_iter().map(|range| words.constant(range)).collect::<Option<Vec<_>>>();
            values.filter(|_| is_whole)
        }
        _ if words.len() == 2 => Some(Vec::new()),
        _ => None,
    };
    values.map_or_else(refuse, |values| ClientCommand::Execute { name, values })
}

/// `DECLARE name … CURSOR … FOR query`
fn declare(words: &StatementWords<'_>) -> Option<ClientCommand> {
    let name = words.name(1)?;
    words.behind("FOR")?;
    if !words.has("CURSOR") {
        return None;
    }
    let scrolls = words.position("SCROLL").is_some_and(|at| words.keyword(at - 1) != "NO");
    if scrolls && words.position("SCROLL") < words.position("CURSOR") {
        return Some(ClientCommand::Refuse(Failure::unsupported("cursors only move forward; leave out SCROLL")));
    }
    let hold = words.position("HOLD").filter(|at| words.keyword(at - 1) == "WITH");
    Some(ClientCommand::Declare { name, hold: hold.is_some_and(|at| Some(at) < words.position("FOR")) })
}

/// `FETCH forward 5 FROM name`
fn fetch(words: &StatementWords<'_>, moves: bool) -> ClientCommand {
    let mut at = 1;
    let refuse =
        || ClientCommand::Refuse(Failure::new("0A000", "cursors only move forward, as in FETCH FORWARD 100 FROM c"));
    let mut rows = Some(1);
    match words.keyword(at).as_str() {
        "FORWARD" => at += 1,
        "NEXT" => at += 1,
        "PRIOR" | "FIRST" | "LAST" | "ABSOLUTE" | "RELATIVE" | "BACKWARD" => return refuse(),
        _ => {}
    }
    if words.keyword(at) == "ALL" {
        (rows, at) = (None, at + 1);
    } else if let Ok(count) = words.text(at).parse::<usize>() {
        (rows, at) = (Some(count), at + 1);
    } else if words.text(at) == "-" {
        return refuse();
    }
    if matches!(words.keyword(at).as_str(), "FROM" | "IN") {
        at += 1;
    }
    match words.name(at) {
        Some(name) if words.len() == at + 1 => ClientCommand::Fetch { name, rows, moves },
        _ => ClientCommand::Refuse(Failure::syntax("a cursor is read as in FETCH 100 FROM c")),
    }
}

#[cfg(test)]
mod tests;
