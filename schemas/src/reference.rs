//! A setting that refers to its value: `${env:NAME}` or `${file:/path}`. The value is looked up when it is needed.
//!
//! Invariant: only settings of the operator are looked up. No definition and no request reaches this file.

/// A reference; a value is one reference or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `${env:NAME}`
    Environment(&'a str),
    /// `${file:/path}`: the text of the file without the last line breaks.
    File(&'a str),
}

impl<'a> Reference<'a> {
    /// The reference that `value` is; `None` if `value` is anything but one reference.
    pub fn of(value: &'a str) -> Option<Self> {
        let inner = value.strip_prefix("${")?.strip_suffix('}')?;
        match inner.split_once(':')? {
            ("env", name) if !name.is_empty() => Some(Reference::Environment(name)),
            ("file", path) if !path.is_empty() => Some(Reference::File(path)),
            _ => None,
        }
    }
}

/// The value that `value` refers to, or `value` itself if it is no reference.
///
/// Errors: why the value cannot be looked up, with advice.
pub fn look_up(value: &str) -> Result<String, String> {
    match Reference::of(value) {
        None => Ok(value.to_owned()),
        Some(Reference::Environment(name)) => std::env::var(name).map_err(|e| match e {
            std::env::VarError::NotPresent => {
                format!("the variable {name} is not set; set it in the environment of this process")
            }
            std::env::VarError::NotUnicode(_) => format!("the variable {name} is not UTF-8"),
        }),
        // Files of secrets often end with a line break that is not part of the secret.
        Some(Reference::File(path)) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| format!("the file {path} cannot be read ({e}); this process must be allowed to read it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_whole_values() {
        let check = |value, expect| assert_eq!(Reference::of(value), expect, "{value}");
        check("${env:KAFKA_PASSWORD}", Some(Reference::Environment("KAFKA_PASSWORD")));
        check("${file:/run/secrets/a:b}", Some(Reference::File("/run/secrets/a:b")));
        for value in ["", "x", "${env:}", "${file:}", "${vault:x}", "x${env:A}", "${env:A}x", "${env}", "$env:A"] {
            check(value, None);
        }
    }

    #[test]
    fn references_are_looked_up_and_nothing_else_is_touched() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'));
        let check = |value: &str, expect: Result<&str, &str>| match (look_up(value), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (found, _) => panic!("{value}: {found:?}"),
        };
        check("plain", Ok("plain"));
        check("${other:x}", Ok("${other:x}"));
        check("a${env:PATH}", Ok("a${env:PATH}"));
        check("${env:PATH}", Ok(&std::env::var("PATH").unwrap()));
        check(&format!("${{file:{path}}}"), Ok(text.trim_end()));
        check("${env:THALWEG_TEST_NOT_SET}", Err("is not set; set it"));
        check("${file:/no/such/file}", Err("cannot be read"));
    }
}
