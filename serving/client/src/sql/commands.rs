//! Backslash commands: their names, their arguments, and the help that lists them.
//!
//! Invariant: the parser accepts every command in [`COMMANDS`] and no other.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::render::OutputFormat;

/// A parsed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ShellCommand {
    /// All streams and views, or one of them in detail.
    Describe(Option<String>),
    /// Streams whose name contains the text; likewise for views and functions.
    Streams(Option<String>),
    Views(Option<String>),
    Functions(Option<String>),
    Timing(Switch),
    Expanded(Switch),
    Pager(Switch),
    OutputFormat(OutputFormat),
    Watch(Duration),
    Include(PathBuf),
    /// With the flags of `thalweg status`.
    Status(Vec<String>),
    Help,
    Quit,
}

/// The change of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    Toggle,
    To(bool),
}

impl Switch {
    pub(super) fn turn(self, setting: &mut bool) {
        *setting = match self {
            Switch::Toggle => !*setting,
            Switch::To(value) => value,
        };
    }
}

/// Name, arguments and description.
pub(super) const COMMANDS: [(&str, &str, &str); 13] = [
    ("\\d", "[NAME]", "list streams and views; columns and definition of one"),
    ("\\dt", "[TEXT]", "streams, with lag and rejects"),
    ("\\dv", "[TEXT]", "views, with the age of their batch version"),
    ("\\df", "[TEXT]", "functions, with their arguments"),
    ("\\x", "[on|off]", "one line per column instead of one per row"),
    ("\\format", "table|csv|json", "how rows are printed"),
    ("\\timing", "[on|off]", "how long an answer took"),
    ("\\watch", "[SECONDS]", "repeat the last query every 2 s or so, until Ctrl-C"),
    ("\\pager", "[on|off]", "long answers through $PAGER, or less -S"),
    ("\\i", "FILE", "run the statements of a file"),
    ("\\status", "", "how far streams and views are, as `thalweg status`"),
    ("\\?", "", "this help"),
    ("\\q", "", "leave, as Ctrl-D does"),
];

/// The default pause of `\watch`.
const WATCH: Duration = Duration::from_secs(2);

/// The longest pause of `\watch`: a day.
const WATCH_AT_MOST: f64 = 86_400.0;

/// Parses `\name arguments`.
///
/// Errors: a message for the user.
pub(super) fn parse(line: &str) -> Result<ShellCommand, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let some = || (!rest.is_empty()).then(|| rest.to_owned());
    let none = |command| match rest {
        "" => Ok(command),
        _ => Err(format!("`{name}` takes no argument, and `{rest}` is one")),
    };
    match name {
        "\\d" => Ok(ShellCommand::Describe(some())),
        "\\dt" => Ok(ShellCommand::Streams(some())),
        "\\dv" => Ok(ShellCommand::Views(some())),
        "\\df" => Ok(ShellCommand::Functions(some())),
        "\\timing" => switch(name, rest).map(ShellCommand::Timing),
        "\\x" => switch(name, rest).map(ShellCommand::Expanded),
        "\\pager" => switch(name, rest).map(ShellCommand::Pager),
        "\\format" => OutputFormat::from_str(rest, true)
            .map(ShellCommand::OutputFormat)
            .map_err(|_| "write `\\format table`, `\\format csv` or `\\format json`".to_owned()),
        "\\watch" => pause(rest).map(ShellCommand::Watch),
        "\\i" => match unquoted(rest) {
            "" => Err("`\\i` needs a file: `\\i views.sql`".to_owned()),
            // TAB completes a space in a file name as `\ `.
            file => Ok(ShellCommand::Include(file.replace("\\ ", " ").into())),
        },
        "\\status" => Ok(ShellCommand::Status(rest.split_whitespace().map(str::to_owned).collect())),
        "\\?" | "\\h" | "\\help" => none(ShellCommand::Help),
        "\\q" | "\\quit" => none(ShellCommand::Quit),
        _ => Err(format!("there is no command `{name}`; \\? lists them")),
    }
}

/// Returns the command for a word that is a command if it is the whole input.
pub(super) fn bare(line: &str) -> Option<ShellCommand> {
    match line.trim().trim_end_matches(';').to_lowercase().as_str() {
        "help" | "?" => Some(ShellCommand::Help),
        "quit" | "exit" => Some(ShellCommand::Quit),
        _ => None,
    }
}

/// Returns the text of `\?`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "SQL ends with a semicolon and may take several lines. TAB completes, Ctrl-R searches the history,\n\
         Ctrl-C cancels, Ctrl-D leaves. A stream, a view, batch.VIEW, speed.VIEW and rejects.STREAM are tables.\n",
    );
    for (name, arguments, what) in COMMANDS {
        text.push_str(&format!("\n  {:<24}{what}", format!("{name} {arguments}")));
    }
    text
}

fn switch(name: &str, rest: &str) -> Result<Switch, String> {
    match rest.to_lowercase().as_str() {
        "" => Ok(Switch::Toggle),
        "on" => Ok(Switch::To(true)),
        "off" => Ok(Switch::To(false)),
        _ => Err(format!("write `{name}`, `{name} on` or `{name} off`")),
    }
}

/// Parses seconds, with or without a unit: 2, 0.5, 2s, 1m.
fn pause(rest: &str) -> Result<Duration, String> {
    if rest.is_empty() {
        return Ok(WATCH);
    }
    let seconds = rest.parse().ok();
    let seconds = seconds.or_else(|| humantime::parse_duration(rest).ok().map(|d| d.as_secs_f64()));
    seconds
        .filter(|s| *s > 0.0 && *s <= WATCH_AT_MOST)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{rest}` is no pause; write `\\watch 2`, in seconds"))
}

fn unquoted(text: &str) -> &str {
    let inside = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: ShellCommand) {
        assert_eq!(parse(line), Ok(expect), "{line}");
    }

    #[track_caller]
    fn refuse(line: &str, part: &str) {
        let error = parse(line).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
    }

    #[test]
    fn commands_are_understood() {
        let some = |text: &str| Some(text.to_owned());
        check("\\d", ShellCommand::Describe(None));
        check("\\d ;", ShellCommand::Describe(None));
        check("  \\d  batch.v ; ", ShellCommand::Describe(some("batch.v")));
        check("\\dt", ShellCommand::Streams(None));
        check("\\dv min", ShellCommand::Views(some("min")));
        check("\\df date", ShellCommand::Functions(some("date")));
        check("\\x", ShellCommand::Expanded(Switch::Toggle));
        check("\\x ON", ShellCommand::Expanded(Switch::To(true)));
        check("\\timing off", ShellCommand::Timing(Switch::To(false)));
        check("\\pager", ShellCommand::Pager(Switch::Toggle));
        check("\\format CSV", ShellCommand::OutputFormat(OutputFormat::Csv));
        check("\\watch", ShellCommand::Watch(Duration::from_secs(2)));
        check("\\watch 0.5", ShellCommand::Watch(Duration::from_millis(500)));
        check("\\watch 1m", ShellCommand::Watch(Duration::from_secs(60)));
        check("\\i a b.sql", ShellCommand::Include("a b.sql".into()));
        check("\\i a\\ b.sql", ShellCommand::Include("a b.sql".into()));
        check("\\i 'a b.sql'", ShellCommand::Include("a b.sql".into()));
        check("\\status --json", ShellCommand::Status(vec!["--json".into()]));
        check("\\?", ShellCommand::Help);
        check("\\q;", ShellCommand::Quit);
    }

    #[test]
    fn what_is_not_understood_says_what_to_write() {
        refuse("\\", "\\? lists them");
        refuse("\\nonsense", "\\nonsense");
        refuse("\\D", "\\? lists them");
        refuse("\\x maybe", "`\\x on`");
        refuse("\\format", "`\\format table`");
        refuse("\\format xml", "`\\format table`");
        refuse("\\i", "needs a file");
        refuse("\\i ''", "needs a file");
        refuse("\\q now", "no argument");
        for pause in ["0", "-1", "soon", "NaN", "1e9", "inf"] {
            refuse(&format!("\\watch {pause}"), "write `\\watch 2`");
        }
    }

    #[test]
    fn every_command_can_be_parsed_and_is_helped() {
        for (name, arguments, what) in COMMANDS {
            let first = arguments.split('|').next().unwrap_or_default();
            let argument = if first.starts_with('[') { "" } else { first };
            parse(&format!("{name} {argument}")).unwrap();
            assert!(help().contains(what));
        }
    }

    #[test]
    fn bare_words_are_commands() {
        assert_eq!(bare(" HELP;"), Some(ShellCommand::Help));
        assert_eq!(bare("exit"), Some(ShellCommand::Quit));
        assert_eq!(bare("exit now"), None);
        assert_eq!(bare(""), None);
    }
}
