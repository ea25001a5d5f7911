//! Secrets that definitions and settings only refer to: `${env:NAME}` and `${file:/path}`.
//!
//! Invariant: a reference is resolved when a client is created, and only librdkafka receives the secret. No
//! definition, log or error contains it.

use std::collections::BTreeMap;

use thalweg_schemas::StreamName;
use thalweg_schemas::definition::stream::{Reference, reference};

use crate::{Error, Result};

/// `properties` with every reference replaced by its secret.
///
/// Errors: [`Error::Secret`], which names the property and the reference.
pub(crate) fn resolve(stream: &StreamName, properties: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    properties
        .into_iter()
        .map(|(property, value)| {
            let looked_up = match reference(&value) {
                None => return Ok((property, value)),
                Some(reference) => look_up(reference),
            };
            match looked_up {
                Ok(secret) => Ok((property, secret)),
                Err(reason) => Err(Error::Secret { stream: stream.clone(), property, reference: value, reason }),
            }
        })
        .collect()
}

fn look_up(reference: Reference<'_>) -> Result<String, String> {
    match reference {
        Reference::Environment(name) => std::env::var(name).map_err(|e| match e {
            std::env::VarError::NotPresent => {
                format!("the variable {name} is not set; set it in the environment of this process")
            }
            std::env::VarError::NotUnicode(_) => format!("the variable {name} is not UTF-8"),
        }),
        // Files of secrets often end with a line break that is not part of the secret.
        Reference::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| format!("the file cannot be read ({e}); this process must be allowed to read it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_looked_up_and_nothing_else_is_touched() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'));
        let check = |value: &str, expect: Result<&str, &str>| {
            let properties = BTreeMap::from([("sasl.password".to_owned(), value.to_owned())]);
            let resolved = resolve(&StreamName::new("s").unwrap(), properties);
            match (resolved, expect) {
                (Ok(all), Ok(expect)) => assert_eq!(all["sasl.password"], expect),
                (Err(error), Err(part)) => {
                    let said = error.to_string();
                    for word in ["`s`", "kafka.sasl.password", value, part] {
                        assert!(said.contains(word), "{said}");
                    }
                }
                (got, _) => panic!("{value}: {got:?}"),
            }
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
