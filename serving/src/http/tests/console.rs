//! The web console and its dashboards over HTTP: headers, what needs a token, and hostile names.

use serde_json::{Value, json};

use super::*;
use crate::access::{Access, AccessToken};

async fn paths_of(server: &Server) -> Vec<String> {
    let page = server.get("/").await.text().await.unwrap();
    page.split('"').filter(|part| part.starts_with("/assets/")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_console_is_served_with_its_headers() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status(), 200);
    let header = |reply: &Reply, name: &str| reply.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    assert_eq!(header(&page, "content-type").unwrap(), "text/html; charset=utf-8");
    assert_eq!(header(&page, "cache-control").unwrap(), "no-cache");
    assert_eq!(header(&page, "x-content-type-options").unwrap(), "nosniff");
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let tag = header(&page, "etag").unwrap();
    for (sent, expect) in [(tag.clone(), 304), (format!("\"x\", W/{tag}"), 304), ("\"x\"".into(), 200)] {
        let request = server.client.get(&server.url).header("if-none-match", &sent);
        assert_eq!(request.send().await.unwrap().status(), expect, "{sent}");
    }
    let mut types = std::collections::BTreeSet::new();
    for path in paths_of(&server).await {
        let plain = server.get(&path).await;
        assert_eq!(plain.status(), 200, "{path}");
        assert!(header(&plain, "cache-control").unwrap().contains("immutable"), "{path}");
        assert_eq!(header(&plain, "content-encoding"), None, "{path}");
        types.insert(header(&plain, "content-type").unwrap());
        let request = server.client.get(format!("{}{path}", server.url)).header("accept-encoding", "br, gzip");
        let compressed = request.send().await.unwrap();
        assert_eq!(header(&compressed, "content-encoding").unwrap(), "gzip", "{path}");
        assert_eq!(header(&compressed, "vary").unwrap(), "accept-encoding", "{path}");
        assert!(compressed.bytes().await.unwrap().len() < plain.bytes().await.unwrap().len(), "{path}");
    }
    let expect =
        ["image/svg+xml", "text/css; charset=utf-8", "text/javascript; charset=utf-8", "text/plain; charset=utf-8"];
    assert!(types.iter().eq(expect), "{types:?}");
}

#[tokio::test]
async fn nothing_else_is_served_from_the_disk() {
    let server = Server::start().await;
    let app = paths_of(&server).await.into_iter().find(|path| path.ends_with(".js")).unwrap();
    let compressed = format!("{app}.gz");
    for path in [
        "/assets/",
        "/assets/index.html",
        "/assets/../index.html",
        "/assets/..%2findex.html",
        "/assets/%2e%2e%2f%2e%2e%2fCargo.toml",
        "/assets/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2fetc%2fpasswd",
        "/assets/app.js%00",
        "/assets/%FF",
        "/index.html",
        "/console",
        compressed.as_str(),
    ] {
        // reqwest would resolve the dots.
        let url = format!("{}{path}", server.url);
        let (status, code, _) = error(server.client.get(url).send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (404, "no_such_path"), "{path}");
    }
    let (status, code, _) = error(server.post("/").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (405, "no_such_method"));
}

async fn standing(change: impl FnOnce(&mut ServingConfig)) -> Server {
    Server::configured(World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await, change).await
}

fn guarded(config: &mut ServingConfig) {
    let token = |text: &str| Some(AccessToken::new(text));
    let hosts = Some(std::collections::BTreeSet::new());
    config.access = Access { query: token("q"), admin: token("a"), hosts, ..Access::default() };
}

#[tokio::test]
async fn files_need_no_token_and_the_right_host() {
    let server = standing(guarded).await;
    let assets = paths_of(&server).await;
    assert!(!assets.is_empty());
    for path in assets.iter().map(String::as_str).chain(["/"]) {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
        let elsewhere = server.client.get(format!("{}{path}", server.url)).header("host", "evil.example");
        let (status, code, _) = error(elsewhere.send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (403, "other_site"), "{path}");
    }
    for path in ["/v1/dashboards", "/v1/dashboards/a", "/v1/views"] {
        let (status, code, _) = error(server.get(path).await).await;
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{path}");
    }
}

fn body(version: u64, title: &str) -> Value {
    let tile =
        json!({"title": "t", "sql": "SELECT 1", "kind": "number", "x": null, "y": [], "by": null, "wide": false});
    json!({"version": version, "dashboard": {"title": title, "refresh_seconds": 5, "tiles": [tile]}})
}

impl Server {
    fn put(&self, name: &str, body: &Value) -> RequestBuilder {
        self.client.put(format!("{}/v1/dashboards/{name}", self.url)).json(body)
    }

    fn delete(&self, name: &str, version: u64) -> RequestBuilder {
        self.client.delete(format!("{}/v1/dashboards/{name}?version={version}", self.url))
    }
}

#[tokio::test]
async fn dashboards_are_saved_listed_and_deleted() {
    let server = Server::start().await;
    let saved: Value = server.put("one", &body(0, "One")).send().await.unwrap().json().await.unwrap();
    assert_eq!(saved, json!({"name": "one", "version": 1, "title": "One"}));
    let (status, code, _) = error(server.put("one", &body(0, "Other")).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (409, "conflict"));
    assert_eq!(server.put("one", &body(1, "Two")).send().await.unwrap().status(), 200);
    let read: Value = server.get("/v1/dashboards/one").await.json().await.unwrap();
    assert_eq!(read, json!({"name": "one", "version": 2, "dashboard": body(0, "Two")["dashboard"]}));
    let list: Value = server.get("/v1/dashboards").await.json().await.unwrap();
    assert_eq!(list, json!({"dashboards": [{"name": "one", "version": 2, "title": "Two"}]}));
    let (status, code, _) = error(server.delete("one", 1).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (409, "conflict"));
    assert_eq!(server.delete("one", 2).send().await.unwrap().status(), 204);
    let (status, code, _) = error(server.get("/v1/dashboards/one").await).await;
    assert_eq!((status, code.as_str()), (404, "not_found"));
}

#[tokio::test]
async fn hostile_dashboards_are_refused() {
    let server = Server::start().await;
    for name in ["..", "a%2Fb", "%FF", "%2e%2e%2fcatalog", "A", "a%00", "%F0%9F%92%A9", &"a".repeat(64)] {
        let reply = server.put(name, &body(0, "x")).send().await.unwrap();
        let (status, code, _) = error(reply).await;
        let expect = [(400, "refused"), (400, "bad_request"), (404, "no_such_path")];
        assert!(expect.contains(&(status, code.as_str())), "{name}: {status} {code}");
    }
    let mut strange = body(0, "x");
    strange["dashboard"]["tiles"][0]["kind"] = json!("pie");
    let mut unknown = body(0, "x");
    unknown["dashboard"]["script"] = json!("alert(1)");
    let mut long = body(0, "x");
    long["dashboard"]["tiles"][0]["sql"] = json!("x".repeat(300_000));
    for (body, expect) in [
        (strange, 400),
        (unknown, 400),
        (long, 413),
        (json!({}), 400),
        (json!([]), 400),
        (json!({"version": -1, "dashboard": {}}), 400),
    ] {
        let (status, code, _) = error(server.put("a", &body).send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (expect, "bad_request"));
    }
    let request = server.put("a", &body(0, "x")).header("origin", "https://elsewhere.example");
    let (status, code, _) = error(request.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "other_site"));
    let reply = server.client.delete(format!("{}/v1/dashboards/a", server.url)).send().await.unwrap();
    assert_eq!(error(reply).await.0, 400);
}

#[tokio::test]
async fn dashboards_are_changed_by_those_who_may_change() {
    let server = standing(guarded).await;
    for (token, expect) in [("x", 401), ("q", 403), ("a", 200)] {
        let reply = server.put("one", &body(0, "One")).bearer_auth(token).send().await.unwrap();
        assert_eq!(reply.status(), expect, "{token}");
    }
    let read = server.client.get(format!("{}/v1/dashboards/one", server.url)).bearer_auth("q");
    assert_eq!(read.send().await.unwrap().status(), 200);
    for (token, expect) in [("q", 403), ("a", 204)] {
        assert_eq!(server.delete("one", 1).bearer_auth(token).send().await.unwrap().status(), expect, "{token}");
    }
    let replica = standing(|config| config.access.definitions = false).await;
    let (status, code, _) = error(replica.put("one", &body(0, "One")).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));
}
