//! Who calls: the token of a call, in the forms in which clients send it.
//!
//! | header | token |
//! |---|---|
//! | `authorization: Bearer TOKEN` | `TOKEN` |
//! | `authorization: Basic base64(USER:TOKEN)` | `TOKEN`; any user |
//!
//! Invariant: [`Access`] decides. What two callers with different tokens made is not each other's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use crate::access::{Access, AccessDenied, Right, bearer};
use crate::options::Options;
use crate::{Error, Result};

/// Bytes of the name of a caller.
const NAME_BYTES: usize = 32;

/// The name of a caller: a hash of its token; the same for everybody where no token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CallerName([u8; NAME_BYTES]);

impl CallerName {
    fn of(access: &Access, token: Option<&str>) -> Self {
        let asked = access.query.is_some() || access.admin.is_some();
        Self(token.filter(|_| asked).map_or([0; NAME_BYTES], |token| *blake3::hash(token.as_bytes()).as_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What is known of a call before its request is read.
#[derive(Debug, Clone)]
pub(super) struct FlightCaller {
    pub(super) name: CallerName,
    /// Why the caller may not change definitions.
    pub(super) definitions: Option<AccessDenied>,
    /// The session that the call names, if it exists.
    pub(super) session: Option<String>,
    /// The options of the session, under those of the call's headers.
    pub(super) options: Options,
}

/// Checks that a call with this token may query.
///
/// Errors: [`Error::Deny`].
pub(super) fn caller(access: &Access, token: Option<&str>) -> Result<FlightCaller> {
    access.check(Right::Query, token).map_err(Error::Deny)?;
    let definitions = access.check_definitions(token).err();
    Ok(FlightCaller {
        name: CallerName::of(access, token),
        definitions,
        session: None,
        options: Options { definitions, ..Options::default() },
    })
}

/// The token of an `authorization` header.
pub(super) fn token(header: &str) -> Option<String> {
    if let Some(token) = bearer(header) {
        return Some(token.to_owned());
    }
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // The clients for Go leave the padding out.
    let credentials = BASE64_STANDARD_NO_PAD.decode(credentials.trim().trim_end_matches('=')).ok()?;
    let credentials = String::from_utf8(credentials).ok()?;
    credentials.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::AccessToken;

    #[test]
    fn a_token_is_a_bearer_or_a_password() {
        for (header, expect) in [
            ("Bearer x", Some("x")),
            ("basic dTpwOnE=", Some("p:q")),
            ("Basic dTo=", Some("")),
            ("Basic dTo", Some("")),
            ("Basic OnA=", Some("p")),
            ("Basic dQ==", None),
            ("Basic ?", None),
            ("Basic /////w==", None),
            ("Basic", None),
            ("Digest x", None),
            ("", None),
        ] {
            assert_eq!(token(header).as_deref(), expect, "{header}");
        }
    }

    #[test]
    fn callers_are_told_apart_by_tokens_that_are_asked_for() {
        let name = |access: &Access, token| caller(access, token).map(|caller| caller.name).ok();
        let open = Access::default();
        assert_eq!(name(&open, None), name(&open, Some("x")));
        let token = |text| Some(AccessToken::new(text));
        let guarded = Access { query: token("q"), admin: token("a"), ..Access::default() };
        assert!(name(&guarded, Some("q")).is_some() && name(&guarded, Some("q")) != name(&guarded, Some("a")));
        assert_eq!(name(&guarded, None), None);
        assert_eq!(name(&guarded, Some("x")), None);
        let definitions = |token| caller(&guarded, Some(token)).unwrap().options.definitions;
        assert_eq!((definitions("q"), definitions("a")), (Some(AccessDenied::NotAdmin), None));
    }
}
