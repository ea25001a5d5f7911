//! Who may do what, and how clients are received. Decisions only; the settings and the request are handed in.
//!
//! Invariant: a token opens exactly what it is for. If any token is set, a right whose token is missing is nobody's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A secret that clients send; only its hash is kept. Comparing hashes takes constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(blake3::Hash);

impl AccessToken {
    pub fn new(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    fn is(&self, given: &str) -> bool {
        self.0 == blake3::hash(given.as_bytes())
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(***)")
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// `/healthz` and `/readyz`, for everybody.
    Probe,
    /// The files of the web console, for everybody who asks for the right host.
    Page,
    Metrics,
    Query,
    /// Definitions, audits, runs and dashboards.
    Change,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessDenied {
    NoToken,
    WrongToken,
    /// The token may query, and the request changes something.
    NotAdmin,
    /// The request changes something, and this server has no token for that.
    NobodyChanges,
    /// A replica that only reads.
    ReadOnly,
    /// The method of the request only reads.
    ReadingMethod,
    /// A page of any origin asks, and this server asks for no token.
    AnyOrigin,
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessDenied::NoToken => "this server asks for a token; send the header `Authorization: Bearer TOKEN`",
            AccessDenied::WrongToken => "the token is not one of this server's; ask its operator for the http_token",
            AccessDenied::NotAdmin => "the token may query, and changes nothing; send the http_admin_token",
            AccessDenied::NobodyChanges => {
                "definitions, audits and runs need the http_admin_token, and this server has none; set one, or use \
                 `thalweg apply` and `thalweg batch run` on the warehouse"
            }
            AccessDenied::ReadOnly => {
                "this replica only reads; send definitions to `thalweg up`, use `thalweg apply` on the warehouse, or set \
                 replica_definitions = true"
            }
            AccessDenied::ReadingMethod => "GET only reads; send definitions with POST",
            AccessDenied::AnyOrigin => {
                "pages of any origin only read here; name the page's origin in http_origins, or set tokens"
            }
        })
    }
}

/// The pages of other sites that may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Every page may read. Browsers send no credentials of their own with such requests.
    pub any: bool,
    /// The pages of these origins may do what the pages of this server may: `https://dashboards.example`.
    pub named: BTreeSet<String>,
}

/// How a page of another site is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownOrigin {
    Named,
    Any,
}

impl Origins {
    /// Whether pages of `origin`, the value of a header, may ask.
    pub(crate) fn knows(&self, origin: &str) -> Option<KnownOrigin> {
        match (self.named.contains(origin), self.any) {
            (true, _) => Some(KnownOrigin::Named),
            (false, true) => Some(KnownOrigin::Any),
            (false, false) => None,
        }
    }
}

/// The guards of a server. The default lets everybody do everything, under any host name.
#[derive(Debug, Clone)]
pub struct Access {
    /// May query and read the status.
    pub query: Option<AccessToken>,
    /// May do everything.
    pub admin: Option<AccessToken>,
    /// True if `/metrics` needs no token.
    pub metrics_open: bool,
    /// The host names that requests may ask for, besides loopback; `None`: any.
    pub hosts: Option<BTreeSet<String>>,
    /// The pages of other sites that may ask.
    pub origins: Origins,
    /// False on a replica that only reads.
    pub definitions: bool,
}

impl Default for Access {
    fn default() -> Self {
        let origins = Origins::default();
        Self { query: None, admin: None, metrics_open: false, hosts: None, origins, definitions: true }
    }
}

impl Access {
    /// Errors: why a request with this token has not the right.
    pub(crate) fn check(&self, right: Right, token: Option<&str>) -> Result<(), AccessDenied> {
        let free = match right {
            Right::Probe | Right::Page => true,
            Right::Metrics if self.metrics_open => true,
            _ => self.query.is_none() && self.admin.is_none(),
        };
        if free {
            return Ok(());
        }
        let given = token.ok_or(AccessDenied::NoToken)?;
        // Both are compared in any case, so that the time tells nothing.
        let is = |expected: &Option<AccessToken>| expected.as_ref().is_some_and(|expected| expected.is(given));
        let (admin, query) = (is(&self.admin), is(&self.query));
        match (admin, query, right) {
            (true, _, _) => Ok(()),
            (false, false, _) => Err(AccessDenied::WrongToken),
            (false, true, Right::Change) if self.admin.is_none() => Err(AccessDenied::NobodyChanges),
            (false, true, Right::Change) => Err(AccessDenied::NotAdmin),
            (false, true, _) => Ok(()),
        }
    }

    /// Errors: why a request with this token may not change definitions.
    pub(crate) fn check_definitions(&self, token: Option<&str>) -> Result<(), AccessDenied> {
        self.check(Right::Change, token)?;
        if self.definitions { Ok(()) } else { Err(AccessDenied::ReadOnly) }
    }

    /// Errors: why a page of another site may not change anything.
    pub(crate) fn check_origin(&self, origin: KnownOrigin) -> Result<(), AccessDenied> {
        let has_tokens = self.query.is_some() || self.admin.is_some();
        match origin {
            KnownOrigin::Any if !has_tokens => Err(AccessDenied::AnyOrigin),
            KnownOrigin::Any | KnownOrigin::Named => Ok(()),
        }
    }

    /// True if a request may ask for `host`, the value of the header `Host`.
    pub(crate) fn serves(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let name = without_port(host).to_lowercase();
        let bare = name.trim_matches(['[', ']']);
        let loopback = name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback || hosts.contains(&name) || hosts.contains(bare)
    }
}

/// `host` of `host:port`; an IPv6 address is in brackets.
fn without_port(host: &str) -> &str {
    let whole = |name: &str| name.ends_with(']') || !name.contains(':');
    match host.rsplit_once(':') {
        Some((name, port)) if whole(name) && !port.contains(']') => name,
        _ => host,
    }
}

/// The token of an `Authorization` header.
pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct DoorTls {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for DoorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorTls(***)")
    }
}

/// Limits of connections and of requests before they are understood.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at the same time; further ones wait.
    pub connections: usize,
    /// Time for the head of a request, for its body, and for a client to take the next bytes of an answer.
    pub client_within: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { connections: 1024, client_within: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::AccessDenied::{NoToken, NobodyChanges, NotAdmin, ReadOnly, WrongToken};
    use super::Right::{Change, Metrics, Page, Probe, Query};
    use super::*;

    const RIGHTS: [Right; 4] = [Probe, Metrics, Query, Change];

    fn access(query: &str, admin: &str) -> Access {
        let token = |text: &str| (!text.is_empty()).then(|| AccessToken::new(text));
        Access { query: token(query), admin: token(admin), ..Access::default() }
    }

    #[test]
    fn a_token_opens_what_it_is_for() {
        let check = |query, admin, token: Option<&str>, expect: [Result<(), AccessDenied>; 4]| {
            let access = access(query, admin);
            assert_eq!(RIGHTS.map(|right| access.check(right, token)), expect, "{query} {admin} {token:?}");
            let open = Access { metrics_open: true, ..access.clone() };
            assert_eq!(open.check(Metrics, token), Ok(()));
            assert_eq!(access.check(Page, token), Ok(()));
        };
        let ok = Ok(());
        check("", "", None, [ok; 4]);
        check("", "", Some("x"), [ok; 4]);
        for (query, admin) in [("q", "a"), ("q", ""), ("", "a")] {
            check(query, admin, None, [ok, Err(NoToken), Err(NoToken), Err(NoToken)]);
            for wrong in ["x", "", "qq", "Q", "q a"] {
                check(query, admin, Some(wrong), [ok, Err(WrongToken), Err(WrongToken), Err(WrongToken)]);
            }
        }
        check("q", "a", Some("q"), [ok, ok, ok, Err(NotAdmin)]);
        check("q", "a", Some("a"), [ok; 4]);
        check("q", "", Some("q"), [ok, ok, ok, Err(NobodyChanges)]);
        check("", "a", Some("a"), [ok; 4]);
        check("same", "same", Some("same"), [ok; 4]);
    }

    #[test]
    fn a_replica_that_only_reads_takes_no_definitions() {
        for (query, admin, token, expect) in [
            ("", "", None, Err(ReadOnly)),
            ("q", "a", Some("a"), Err(ReadOnly)),
            ("q", "a", Some("q"), Err(NotAdmin)),
            ("q", "a", None, Err(NoToken)),
        ] {
            let replica = Access { definitions: false, ..access(query, admin) };
            assert_eq!(replica.check_definitions(token), expect);
        }
        assert_eq!(access("q", "a").check_definitions(Some("a")), Ok(()));
    }

    #[test]
    fn hosts_are_loopback_and_those_that_are_named() {
        let check = |hosts: Option<&[&str]>, host: &str, expect: bool| {
            let hosts = hosts.map(|hosts| hosts.iter().map(|&h| h.to_owned()).collect());
            assert_eq!(Access { hosts, ..Access::default() }.serves(host), expect, "{host}");
        };
        for host in ["localhost", "LOCALHOST:8642", "127.0.0.1", "127.0.0.1:8642", "127.1.2.3:1", "[::1]", "[::1]:8642"]
        {
            check(Some(&[]), host, true);
            check(None, host, true);
        }
        for host in [
            "evil.example",
            "evil.example:8642",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8642",
            "10.0.0.1:8642",
            "0.0.0.0",
            "",
            ":8642",
            "[::2]:1",
            "localhost:1:2",
            "evil.example:localhost",
        ] {
            check(Some(&[]), host, false);
            check(None, host, true);
        }
        let named: Option<&[&str]> = Some(&["a.example", "10.0.0.7", "fd00::7"]);
        for host in ["a.example", "A.Example:80", "10.0.0.7:8642", "[fd00::7]:8642", "localhost:1"] {
            check(named, host, true);
        }
        check(named, "b.a.example", false);
    }

    #[test]
    fn pages_of_other_sites_are_named_exactly() {
        let named = Origins { any: false, named: ["https://a.example".to_owned(), "http://b:3000".to_owned()].into() };
        let any = Origins { any: true, ..named.clone() };
        for (origin, of_named, of_any) in [
            ("https://a.example", Some(KnownOrigin::Named), KnownOrigin::Named),
            ("http://b:3000", Some(KnownOrigin::Named), KnownOrigin::Named),
            ("http://a.example", None, KnownOrigin::Any),
            ("https://a.example:443", None, KnownOrigin::Any),
            ("https://a.example.evil", None, KnownOrigin::Any),
            ("https://A.example", None, KnownOrigin::Any),
            ("null", None, KnownOrigin::Any),
            ("*", None, KnownOrigin::Any),
        ] {
            assert_eq!(named.knows(origin), of_named, "{origin}");
            assert_eq!(any.knows(origin), Some(of_any), "{origin}");
            assert_eq!(Origins::default().knows(origin), None, "{origin}");
        }
        assert_eq!(access("", "").check_origin(KnownOrigin::Any), Err(AccessDenied::AnyOrigin));
        assert_eq!(access("", "").check_origin(KnownOrigin::Named), Ok(()));
        assert_eq!(access("q", "a").check_origin(KnownOrigin::Any), Ok(()));
    }

    #[test]
    fn tokens_are_in_the_header_of_authorization() {
        for (header, expect) in [
            ("Bearer x", Some("x")),
            ("bearer  x ", Some("x")),
            ("Basic x", None),
            ("x", None),
            ("", None),
            ("Bearer", None),
        ] {
            assert_eq!(bearer(header), expect, "{header}");
        }
    }

    #[test]
    fn no_token_is_shown() {
        let shown = format!("{:?}", access("hunter2", "hunter3"));
        assert!(!shown.contains("hunter") && shown.contains("***"), "{shown}");
    }
}
