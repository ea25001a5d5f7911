//! The one binary, `thalweg`: reads the command line, runs one command, turns its outcome into an exit code.
//!
//! It exists so that all layers start, stop and report in one place. Invariant: exit code 0 is success, 1 a failure,
//! 2 wrong usage, 70 a broken promise of this program; the reason is one `error:` line on stderr.

mod cli;
mod config;
mod flags;
mod logging;
mod terminal;

mod apply;
mod audit;
mod batch;
mod check;
mod completions;
mod demo;
mod init;
mod serve;
mod speed;
mod sql;
mod status;
mod up;

mod client;
mod platform;
mod signals;

use std::process::ExitCode;

use clap::Parser;
use thalweg_schemas::Fault;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// BSD's EX_SOFTWARE.
const BROKEN: u8 = 70;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&anyhow::anyhow!("no threads: {e}")),
    };
    let outcome = runtime.block_on(run(cli.command));
    // Threads that still wait for a network do not hold up the end.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|e| report(&e))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(arguments) => up::run(*arguments).await,
        Command::Speed(arguments) => speed::run(*arguments).await,
        Command::Batch(arguments) => batch::run(*arguments).await,
        Command::Serve(arguments) => serve::run(*arguments).await,
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(arguments).await,
        Command::Apply(arguments) => apply::run(arguments).await,
        Command::Sql(arguments) => sql::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Audit(arguments) => audit::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Config => terminal::out(config::DEFAULTS.trim_end()).map(|()| ExitCode::SUCCESS),
    }
}

/// Says why in one line and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if terminal::is_closed(error) {
        return ExitCode::SUCCESS;
    }
    terminal::err(&format!("error: {}", terminal::sentence(error)));
    match (error.downcast_ref::<cli::Usage>(), fault(error)) {
        (Some(_), _) => ExitCode::from(2),
        (None, Some(Fault::Bug)) => ExitCode::from(BROKEN),
        (None, _) => ExitCode::FAILURE,
    }
}

fn fault(error: &anyhow::Error) -> Option<Fault> {
    let stopped = error.downcast_ref::<platform::Stopped>().map(|e| e.fault);
    let stopped = stopped.or_else(|| Some(error.downcast_ref::<thalweg_demo::Error>()?.fault()));
    stopped.or_else(|| error.downcast_ref::<thalweg_schemas::Error>().map(|e| e.fault()))
}
