//! Runs the command line and returns an exit code.
//!
//! Invariant: exit code 0 is success, 1 a failure, 2 wrong usage, 70 a bug in this program. The reason is one
//! `error:` line on stderr.

use std::process::ExitCode;

use clap::Parser;
use thalweg_schemas::Fault;

use crate::cli::Cli;
use crate::{cli, flags, platform, terminal};

/// BSD's EX_SOFTWARE.
const BROKEN: u8 = 70;

/// Parses the command line, runs one command, and returns its exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&anyhow::anyhow!("no threads: {e}")),
    };
    let outcome = runtime.block_on(cli::run(cli.command));
    // Threads that still wait for a network must not delay the exit. They end with the process: ending them here would
    // end helpers that a running step waits for, which the Delta library answers with a panic.
    std::mem::forget(runtime);
    outcome.unwrap_or_else(|e| report(&e))
}

/// Prints the reason in one line and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if terminal::is_closed(error) {
        return ExitCode::SUCCESS;
    }
    terminal::err(&format!("error: {}", terminal::sentence(error)));
    match (error.downcast_ref::<flags::Usage>(), fault(error)) {
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
