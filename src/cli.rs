//! The command line: its commands, and the `--help` text of the program.
//!
//! Invariant: each command is one module of [`crate::commands`]; this file does not know what a command does.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use thalweg_client::terminal;

use crate::commands::{
    apply, audit, batch, check, completions, demo, infer, init, load, produce, rejects, serve, speed, sql, status, up,
};
use crate::config;

const EXAMPLES: &str = "\
Examples:
  thalweg up --demo                             see it work, with nothing installed
  thalweg init site                             a project to start from
  thalweg up --apply definitions.sql            start everything, with these streams and views
  thalweg sql \"SELECT * FROM device_minutes\"    ask it
  thalweg status                                how far everything is

`thalweg up` is all of it in one process. Apart: `thalweg speed` and `thalweg serve`, as many as are needed, and
`thalweg batch`.

`thalweg COMMAND --help` has more. Settings: `thalweg config > thalweg.toml`.";

/// Exact SQL answers over streams: one view, two layers, one frontier.
///
/// Thalweg archives Kafka topics, keeps SQL aggregate views over them in a batch and a speed layer, and answers
/// queries that are exact at the frontier (next offset per partition) which each answer names.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<up::Arguments>),
    Speed(Box<speed::Arguments>),
    Batch(Box<batch::Arguments>),
    Serve(Box<serve::Arguments>),
    Init(init::Arguments),
    Infer(Box<infer::Arguments>),
    Check(check::Arguments),
    Apply(apply::Arguments),
    Sql(sql::Arguments),
    Status(status::Arguments),
    Produce(Box<produce::Arguments>),
    Load(Box<load::Arguments>),
    Rejects(Box<rejects::Arguments>),
    Audit(audit::Arguments),
    Demo(demo::Arguments),
    /// Print the default settings, a file that documents every key
    ///
    /// Save it as thalweg.toml and change what should differ; keys that are left out keep their defaults.
    #[command(after_help = "Examples:\n  thalweg config > thalweg.toml\n  thalweg up --config thalweg.toml")]
    Config,
    Completions(completions::Arguments),
}

/// Runs one command to its end.
///
/// Errors: the failure of the command; [`crate::flags::Usage`] if it was used wrongly.
pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(arguments) => up::run(*arguments).await,
        Command::Speed(arguments) => speed::run(*arguments).await,
        Command::Batch(arguments) => batch::run(*arguments).await,
        Command::Serve(arguments) => serve::run(*arguments).await,
        Command::Init(arguments) => init::run(&arguments),
        Command::Infer(arguments) => infer::run(*arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
        Command::Apply(arguments) => apply::run(arguments).await,
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Produce(arguments) => produce::run(*arguments).await,
        Command::Load(arguments) => load::run(*arguments).await,
        Command::Rejects(arguments) => rejects::run(*arguments).await,
        Command::Audit(arguments) => audit::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
        Command::Config => terminal::out(config::DEFAULTS.trim_end()).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n  thalweg "), "{}", command.get_name());
            command.get_subcommands_mut().filter(|c| c.get_name() != "help").for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }

    #[test]
    fn flags_reach_the_settings() {
        let cli = Cli::try_parse_from([
            "thalweg",
            "up",
            "--epoch-bytes",
            "1MiB",
            "--kafka",
            "bootstrap.servers=a:1,b:2",
            "--kafka",
            "x=a=b",
            "--data-dir",
            "/tmp/x",
            "--batch-threads",
            "3",
            "--http-addr",
            "127.0.0.1:0",
        ])
        .unwrap();
        let Command::Up(up) = cli.command else { panic!("not up") };
        let settings = up.settings().unwrap();
        assert_eq!(settings.epoch_bytes, 1 << 20);
        assert_eq!(settings.batch_threads, 3);
        assert_eq!(settings.kafka["bootstrap.servers"], "a:1,b:2");
        assert_eq!(settings.kafka["x"], "a=b");
        assert_eq!(settings.spill_dir(), std::path::Path::new("/tmp/x/spill"));
    }

    #[test]
    fn flags_of_one_role_are_unknown_to_the_others() {
        for (line, part) in [
            ("speed --partitions 3-1", "write 0-15,20"),
            ("speed --workers a:1", "--workers"),
            ("speed --cluster-token x", "--cluster-token"),
            ("serve --workers here", "write HOST:PORT"),
            ("serve --partitions 1", "--partitions"),
            ("batch --kafka a=b", "--kafka"),
            ("batch --batch-interval 1m run", "run"),
        ] {
            let words = std::iter::once("thalweg").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
        for line in [
            "speed --partitions 0-3,7 --flight-addr 127.0.0.1:0 --group-instance a",
            "serve --workers dns:speed:8643 --tls-ca ca.pem",
            "serve --workers group --kafka a=b --group-id g",
            "batch --batch-interval 1m",
            "batch run --wait",
        ] {
            let words = std::iter::once("thalweg").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn bad_flags_are_refused() {
        for (flags, part) in [
            (["--epoch-bytes", "much"], "write 64MiB"),
            (["--grace", "soon"], "write 250ms"),
            (["--grace", "0s"], "above zero"),
            (["--kafka", "nonsense"], "write KEY=VALUE"),
            (["--storage", "=x"], "write KEY=VALUE"),
            (["--http-addr", "here"], "http-addr"),
            (["--log-format", "xml"], "possible values: text, json"),
            (["--max-queries", "many"], "whole number"),
            (["--colour", "red"], "--colour"),
        ] {
            let error = Cli::try_parse_from(["thalweg", "up", flags[0], flags[1]]).unwrap_err();
            assert!(error.to_string().contains(part), "{flags:?}: {error}");
        }
    }
}
