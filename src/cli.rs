//! The command line: commands, the flags that several share, and what `--help` says.
//!
//! Invariant: a flag that is also a setting carries its text to [`Settings`] unchanged; it is checked here only so
//! that the error names the flag.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use toml::Table;

use crate::config::{Settings, parse_count, parse_duration, parse_size};
use crate::{apply, audit, batch, check, completions, demo, init, serve, speed, sql, status, up};

/// The command was used wrongly: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

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
    Check(check::Arguments),
    Apply(apply::Arguments),
    Sql(sql::Arguments),
    Status(status::Arguments),
    Audit(audit::Arguments),
    Demo(demo::Arguments),
    /// Print the default settings, a file that documents every key
    ///
    /// Save it as thalweg.toml and change what should differ; keys that are left out keep their defaults.
    #[command(after_help = "Examples:\n  thalweg config > thalweg.toml\n  thalweg up --config thalweg.toml")]
    Config,
    Completions(completions::Arguments),
}

/// Which warehouse, and the file with the rest of the settings.
#[derive(Debug, Args, Serialize)]
pub(crate) struct WarehouseFlags {
    /// Settings file [default: thalweg.toml in the current folder, if there]
    #[arg(long, value_name = "FILE", env = "THALWEG_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of this process; holds the warehouse unless that is elsewhere [default: thalweg-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where streams are archived and views kept: file:///path or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    warehouse: Option<String>,
    /// Force every write to a local disk at once; false is faster, and a power failure may take commits [default: true]
    #[arg(long, value_name = "BOOL", value_parser = ["true", "false"])]
    fsync: Option<String>,
    /// Option of the object store, as aws_endpoint=http://127.0.0.1:9000; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[serde(serialize_with = "as_table")]
    storage: Vec<(String, String)>,
}

/// How a recomputation runs.
#[derive(Debug, Args, Serialize)]
pub(crate) struct RunFlags {
    /// Memory of one recomputation; what does not fit is spilled [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    batch_memory: Option<String>,
    /// Folder for what is spilled [default: spill in the data folder]
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// Threads of one recomputation, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    batch_threads: Option<String>,
    /// State files of a view above which a run merges them [default: 8]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    compact_files: Option<String>,
}

/// Where `thalweg up` answers unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8642";

/// Which server a command asks.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Address of a running `thalweg up` or `thalweg serve`
    #[arg(
        long,
        value_name = "URL",
        env = "THALWEG_URL",
        default_value = DEFAULT_URL
    )]
    pub(crate) url: String,
}

/// The settings of a command: `groups` are its flags.
///
/// Errors: [`Usage`], naming the layer and the key.
pub(crate) fn settings(warehouse: &WarehouseFlags, groups: &[Table]) -> Result<Settings> {
    settings_over(Table::new(), warehouse, groups)
}

/// As [`settings`], with other defaults for some.
pub(crate) fn settings_over(defaults: Table, warehouse: &WarehouseFlags, groups: &[Table]) -> Result<Settings> {
    let mut flags = table(warehouse);
    flags.extend(groups.iter().flat_map(|group| group.clone()));
    Settings::load(defaults, warehouse.config.as_deref(), flags).map_err(|e| Usage(format!("{e:#}")).into())
}

/// Flags as settings; those not given are left out.
pub(crate) fn table(flags: &impl Serialize) -> Table {
    Table::try_from(flags).expect("flags are strings and tables of strings")
}

/// A parser that keeps the text which `parse` accepts.
pub(crate) fn checked<T>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text| parse(text).map(|_| text.to_owned())
}

/// [`checked`] for durations, which most groups need.
pub(crate) fn checked_duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

pub(crate) fn as_table<S: serde::Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(k, v)| (k, v)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
