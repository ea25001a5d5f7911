//! Where the broker's log is, in the words of its storage: a URL.
//!
//! The storage takes the URL's path for a path in the current folder, and takes it as it is written: what a URL
//! escapes stays escaped. An absolute path behind one more slash is an absolute path all the same; a folder whose name
//! a URL would change is reached through a symbolic link. Invariant: the URL leads to the file that was asked for,
//! whatever the current folder is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use url::Url;
use uuid::Uuid;

/// A URL, and the link that it goes through; the link lasts as long as this.
pub(super) struct Place {
    url: Url,
    _link: Option<Link>,
}

impl Place {
    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

/// A symbolic link that is removed in the end.
struct Link(PathBuf);

impl Drop for Link {
    fn drop(&mut self) {
        // If it stays, a link without a use lies in the folder for temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The place of `file`, whose folder exists.
///
/// Errors: why the storage cannot be told of it.
pub(super) fn locate(file: &Path) -> Result<Place, String> {
    let file = std::path::absolute(file).map_err(|e| e.to_string())?;
    if let Some(url) = url_of(&file) {
        return Ok(Place { url, _link: None });
    }
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err("it is no file".to_owned());
    };
    let link = std::env::temp_dir().join(format!("thalweg-broker-{}", Uuid::new_v4().simple()));
    symlink(folder, &link).map_err(|e| format!("no link {}: {e}", link.display()))?;
    let link = Link(link);
    let url = url_of(&link.0.join(name)).ok_or_else(|| {
        let folder = std::env::temp_dir();
        format!(
            "TMPDIR names {}, which needs a plainer name",
            folder.display()
        )
    })?;
    Ok(Place {
        url,
        _link: Some(link),
    })
}

/// The URL of an absolute path, unless a URL would change the path.
fn url_of(path: &Path) -> Option<Url> {
    let path = path.to_str()?;
    let url = Url::parse(&format!("sqlite:///{path}")).ok()?;
    let same = url.path().strip_prefix('/') == Some(path);
    (same && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the storage reads a URL.
    fn read(url: &Url) -> PathBuf {
        let path = std::env::current_dir().unwrap();
        path.join(url.path().strip_prefix('/').unwrap())
    }

    #[track_caller]
    fn check(folder: &str, linked: bool) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("log.db");
        std::fs::write(&file, "here").unwrap();
        let place = locate(&file).unwrap();
        let read = read(place.url());
        assert_eq!(std::fs::read_to_string(&read).unwrap(), "here");
        assert_eq!(read != file, linked, "{}", read.display());
        drop(place);
        assert_eq!(read.exists(), !linked);
    }

    #[test]
    fn every_folder_is_reached() {
        check("data/broker", false);
        check("data-1_2.3~/broker", false);
        // What looks like an escape is taken as it is written.
        check("100%", false);
        check("a%20b", false);
        for odd in ["my data", "Jörg", "a#b", "what?", "雪", "a\"b"] {
            check(odd, true);
        }
    }
}
