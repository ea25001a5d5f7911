//! `thalweg completions`: prints the script by which a shell completes commands and flags.
//!
//! Invariant: the script is generated from the definition of the command line, so it agrees with `--help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap_complete::{Shell, generate};
use thalweg_client::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg completions bash > ~/.local/share/bash-completion/completions/thalweg
  thalweg completions zsh > ~/.zfunc/_thalweg     # with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  thalweg completions fish > ~/.config/fish/completions/thalweg.fish
  thalweg completions powershell >> $PROFILE
  thalweg completions elvish >> ~/.config/elvish/rc.elv

Make the folder first if it is not there; a new shell has the completions. To try them in this one only:
  source <(thalweg completions bash)";

/// Print a script that completes commands and flags in your shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// `command` is the whole command line.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, "thalweg", &mut script);
    terminal::out(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
