//! Pages of other sites: who may ask, and what browsers are told.

use super::*;
use crate::access::{Access, AccessToken, Origins};

const NAMED: &str = "https://dashboards.example";

async fn server(any: bool, tokens: bool) -> Server {
    let token = |text: &str| tokens.then(|| AccessToken::new(text));
    let origins = Origins { any, named: [NAMED.to_owned()].into() };
    let access = Access { origins, query: token("q"), admin: token("a"), ..Access::default() };
    Server::with(|config| config.access = access).await
}

impl Server {
    async fn page_asks(&self, origin: &str, sql: &str) -> Reply {
        self.post("/v1/sql").header("origin", origin).body(sql.to_owned()).send().await.unwrap()
    }

    async fn preflight(&self, origin: &str) -> Reply {
        let request = self.client.request(Method::OPTIONS, format!("{}/v1/sql", self.url)).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization").send().await.unwrap()
    }
}

fn allowed(reply: &Reply) -> Option<&str> {
    Some(reply.headers().get("access-control-allow-origin")?.to_str().unwrap())
}

#[tokio::test]
async fn a_named_page_asks_and_its_preflight_needs_no_token() {
    let server = server(false, true).await;
    let reply = server.preflight(NAMED).await;
    assert_eq!((reply.status().as_u16(), allowed(&reply)), (204, Some(NAMED)));
    let headers = reply.headers();
    assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert_eq!(headers["vary"], "origin");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    let refused = server.page_asks(NAMED, "SELECT 1").await;
    assert_eq!((refused.status().as_u16(), allowed(&refused)), (401, Some(NAMED)));
    let request = server.post("/v1/sql").header("origin", NAMED).bearer_auth("q").body("SELECT 1");
    let reply = request.send().await.unwrap();
    assert_eq!((reply.status().as_u16(), allowed(&reply)), (200, Some(NAMED)));
    assert!(reply.headers()["access-control-expose-headers"].to_str().unwrap().contains("thalweg-frontier"));
    let varied: Vec<&str> = reply.headers().get_all("vary").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(varied, ["accept, accept-encoding", "origin"]);
    let create = "CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data";
    let request = server.post("/v1/sql").header("origin", NAMED).bearer_auth("q").body(create);
    assert_eq!(error(request.send().await.unwrap()).await.1, "forbidden");
}

#[tokio::test]
async fn other_pages_are_refused_as_before() {
    let server = server(false, false).await;
    for origin in ["https://evil.example", "http://dashboards.example", "https://dashboards.example.evil", "null", "*"]
    {
        let reply = server.preflight(origin).await;
        assert_eq!((reply.status().as_u16(), allowed(&reply)), (403, None), "{origin}");
        let reply = server.page_asks(origin, "SELECT 1").await;
        assert_eq!(allowed(&reply), None);
        assert_eq!(error(reply).await.1, "other_site", "{origin}");
    }
    let own = server.url.clone();
    assert_eq!(server.page_asks(&own, "SELECT 1").await.status(), 200);
    // A browser says from where it fetches, also without an origin, as for an image.
    let fetch = async |dest: &str, origin: Option<&str>| {
        let request = server.client.get(format!("{}/v1/sql?query=SELECT%201", server.url));
        let request = request.header("sec-fetch-site", "cross-site").header("sec-fetch-dest", dest);
        let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(fetch("image", None).await, 403);
    assert_eq!(fetch("empty", Some("https://evil.example")).await, 403);
    assert_eq!(fetch("empty", Some(NAMED)).await, 200);
    assert_eq!(fetch("document", None).await, 200, "somebody opens a link");
    let closed = Server::start().await;
    let reply = closed.preflight(NAMED).await;
    assert_eq!((reply.status().as_u16(), allowed(&reply), reply.headers().get("vary")), (403, None, None));
    let options = closed.client.request(Method::OPTIONS, format!("{}/v1/sql", closed.url)).send().await.unwrap();
    assert_eq!(error(options).await.0, 405);
}

#[tokio::test]
async fn any_page_reads_and_changes_nothing_unless_tokens_decide() {
    let open = server(true, false).await;
    let reply = open.page_asks("https://some.example", "SELECT 1").await;
    assert_eq!((reply.status().as_u16(), allowed(&reply)), (200, Some("*")));
    assert_eq!(allowed(&open.preflight("null").await), Some("*"));
    let drop = "DROP MATERIALIZED VIEW nowhere";
    assert_eq!(error(open.page_asks("https://some.example", drop).await).await.1, "forbidden");
    assert_eq!(error(open.page_asks(NAMED, drop).await).await.1, "not_found");
    assert_eq!(error(open.sql(drop).await).await.1, "not_found");
    let audit = open.post("/v1/audit?view=totals").header("origin", "https://some.example");
    assert_eq!(error(audit.send().await.unwrap()).await.1, "forbidden");
    let guarded = server(true, true).await;
    let request = guarded.post("/v1/sql").header("origin", "https://some.example").bearer_auth("a").body(drop);
    assert_eq!(error(request.send().await.unwrap()).await.1, "not_found");
}
