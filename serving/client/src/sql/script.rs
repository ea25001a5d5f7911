//! A file of statements and commands, and how a run of it ended.
//!
//! Invariant: a script has a name, because every error in it states its position.

/// A script's text, and its name in errors.
#[derive(Debug)]
pub struct SqlScript {
    pub(super) name: String,
    pub(super) text: String,
}

impl SqlScript {
    pub fn new(name: &str, text: String) -> Self {
        let name = name.to_owned();
        Self { name, text }
    }
}

/// How a script ended.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct End {
    pub(super) failed: bool,
    /// True if the script also quits the shell.
    pub(super) quit: bool,
}

/// The error of an included script that failed; the reason was already printed.
#[derive(Debug)]
pub(super) struct InnerScript;

impl std::fmt::Display for InnerScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file's statements failed")
    }
}

impl std::error::Error for InnerScript {}
