//! Runs the command line and returns an exit code.
//!
//! Invariant: exit code 0 is success, 1 a failure, 2 wrong usage, 70 a bug in this program. The reason is one
//! `error:` line on stderr.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use thalweg_client::terminal;
use thalweg_schemas::Fault;
use thalweg_schemas::engine::threads::STACK;

use crate::cli::{Cli, Command};
use crate::{advice, cli, flags, platform};

/// BSD's EX_SOFTWARE.
const BROKEN: u8 = 70;

/// Parses the command line, runs one command, and returns its exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&anyhow::anyhow!("no threads: {e}")),
    };
    let outcome = runtime.block_on(on_a_thread(cli.command));
    // Threads that still wait for a network must not delay the exit. They end with the process: ending them here would
    // end helpers that a running step waits for, which the Delta library answers with a panic.
    std::mem::forget(runtime);
    outcome.unwrap_or_else(|e| report(&e))
}

/// Runs the command on a thread of the runtime: the main thread's stack is the system's choice, and too small for SQL
/// that nests.
async fn on_a_thread(command: Command) -> Result<ExitCode> {
    match tokio::spawn(cli::run(command)).await {
        Ok(outcome) => outcome,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    }
}

/// Prints the reason in one line and chooses the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if terminal::is_closed(error) {
        return ExitCode::SUCCESS;
    }
    terminal::err(&format!("error: {}", advice::sentence(error)));
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
