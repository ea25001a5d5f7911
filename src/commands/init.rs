//! `thalweg init`: writes a new project of four files.
//!
//! Invariant: without `--force` no file is replaced; if one of the files exists, none is written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use thalweg_client::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg init site
  cd site && thalweg check definitions.sql
  thalweg up --apply definitions.sql";

/// Names and contents of the files; the other commands look for these names.
const FILES: [(&str, &str); 4] = [
    ("thalweg.toml", include_str!("init/thalweg.toml")),
    ("definitions.sql", include_str!("init/definitions.sql")),
    ("README.md", include_str!("init/README.md")),
    (".gitignore", include_str!("init/gitignore")),
];

/// Write a project to start from: settings, a stream, a view
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder of the project; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = &arguments.folder;
    write(folder, arguments.force)?;
    for (name, _) in FILES {
        terminal::out(&format!("wrote {}", folder.join(name).display()))?;
    }
    terminal::err(&format!(
        "next: cd {}, write your brokers into thalweg.toml, then `thalweg up --apply definitions.sql`",
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, replace: bool) -> Result<()> {
    if !replace {
        let taken: Vec<String> = FILES
            .iter()
            .map(|(name, _)| folder.join(name))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if !taken.is_empty() {
            bail!(
                "{} would be overwritten, so nothing was written; choose another folder, or allow it with --force",
                taken.join(", ")
            );
        }
    }
    std::fs::create_dir_all(folder).with_context(|| cannot_write(folder))?;
    for (name, content) in FILES {
        let path = folder.join(name);
        let written = if replace { std::fs::write(&path, content) } else { create_new(&path, content) };
        written.with_context(|| cannot_write(&path))?;
    }
    Ok(())
}

/// Creates a file, and fails if it exists: another process may have created it after the check.
fn create_new(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => std::io::Error::other("it has just been created"),
        _ => e,
    })?;
    std::io::Write::write_all(&mut file, content.as_bytes())
}

fn cannot_write(path: &Path) -> String {
    format!("{} cannot be written; choose a folder that can", path.display())
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::config::Settings;

    #[tokio::test]
    async fn what_it_writes_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("a/b");
        write(&project, false).unwrap();
        let settings = Settings::load(Table::new(), Some(&project.join("thalweg.toml")), Table::new()).unwrap();
        assert_eq!(settings.kafka["bootstrap.servers"], "localhost:9092");
        let sql = std::fs::read_to_string(project.join("definitions.sql")).unwrap();
        let checked = thalweg_schemas::check::check(&[sql]).await;
        assert_eq!(checked.findings, []);
        assert_eq!((checked.streams, checked.views), (1, 1));
        let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
        assert!(readme.lines().count() <= 10, "{readme}");
    }

    #[test]
    fn it_overwrites_only_when_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("README.md");
        std::fs::write(&mine, "mine").unwrap();
        let refused = write(folder.path(), false).unwrap_err().to_string();
        assert!(refused.contains(&mine.display().to_string()), "{refused}");
        assert!(refused.contains("--force"), "{refused}");
        assert!(!refused.contains("thalweg.toml"), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write(folder.path(), true).unwrap();
        assert_ne!(std::fs::read_to_string(&mine).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES.len());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = write(&file, false).unwrap_err();
        let said = crate::advice::sentence(&error);
        assert!(said.contains(&file.display().to_string()), "{said}");
    }
}
