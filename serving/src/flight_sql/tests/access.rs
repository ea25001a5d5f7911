//! Who may do what: tokens in each form, and what callers made for themselves.

use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery,
    CommandStatementUpdate,
};
use arrow_flight::{BasicAuth, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::stream;

use super::*;

fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn every_call_needs_the_token() {
    let server = FlightServer::guarded("q", "a").await;
    let mut raw = server.raw().await;
    for (authorization, expect) in [
        (None, Code::Unauthenticated),
        (Some("Bearer x".to_owned()), Code::Unauthenticated),
        (Some(basic("u", "x")), Code::Unauthenticated),
        (Some("Bearer q".to_owned()), Code::Ok),
        (Some(basic("u", "q")), Code::Ok),
        (Some(basic("", "a")), Code::Ok),
    ] {
        let with = |descriptor| with(descriptor, authorization.as_deref());
        let info = raw.get_flight_info(with(statement("SELECT 1"))).await;
        assert_eq!(info.map_or_else(|status| status.code(), |_| Code::Ok), expect, "{authorization:?}");
        if expect != Code::Ok {
            let code = |status: Status| refusal(&status);
            let denied = (expect, "unauthorized".to_owned());
            let action = |name: &str| super::with_body(name, Vec::new());
            assert_eq!(
                raw.do_action(action("ClosePreparedStatement")).await.map(drop).map_err(code),
                Err(denied.clone())
            );
            assert_eq!(raw.do_get(Ticket::new(vec![1])).await.map(drop).map_err(code), Err(denied.clone()));
            assert_eq!(raw.get_schema(statement("")).await.map(drop).map_err(code), Err(denied.clone()));
            assert_eq!(raw.list_actions(arrow_flight::Empty {}).await.map(drop).map_err(code), Err(denied.clone()));
            let put = stream::iter([FlightData::default()]);
            assert_eq!(raw.do_put(put).await.map(drop).map_err(code), Err(denied));
        }
    }
}

#[tokio::test]
async fn a_handshake_gives_the_token_back() {
    let server = FlightServer::guarded("q", "a").await;
    let mut client = server.client().await;
    let payload = client.handshake("somebody", "q").await.unwrap();
    assert_eq!(&*payload, b"q");
    assert_eq!(client.token().map(String::as_str), Some("q"));
    assert_eq!(query(&mut client, "SELECT 1 AS n").await, ["n", "1"]);
    let refused = server.client().await.handshake("somebody", "x").await.unwrap_err().to_string();
    assert!(refused.contains("token"), "{refused}");

    // As older clients send it.
    let mut raw = server.raw().await;
    for (password, expect) in [("q", true), ("x", false), ("", false)] {
        let basic = BasicAuth { username: "u".to_owned(), password: password.to_owned() };
        let request = HandshakeRequest { protocol_version: 0, payload: basic.encode_to_vec().into() };
        let reply = raw.handshake(stream::iter([request])).await;
        assert_eq!(reply.is_ok(), expect, "{password}");
        if let Ok(reply) = reply {
            assert_eq!(reply.metadata().get("authorization").unwrap(), "Bearer q");
        }
    }
    let nothing = raw.handshake(stream::iter(Vec::new())).await.map(drop).unwrap_err();
    assert_eq!(nothing.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_server_without_tokens_lets_everybody_in() {
    let server = FlightServer::start().await;
    for (user, password) in [("", ""), ("u", "p"), ("ü", "größe")] {
        let mut client = server.client().await;
        client.handshake(user, password).await.unwrap();
        assert!(client.token().is_some());
        assert_eq!(query(&mut client, "SELECT 1 AS n").await, ["n", "1"], "{user}");
    }
}

#[tokio::test]
async fn only_admins_define() {
    let server = FlightServer::guarded("q", "a").await;
    let create = "CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data";
    for (token, expect) in [("q", Some("forbidden")), ("a", None)] {
        let mut client = server.client().await;
        client.set_token(token.to_owned());
        let mut prepared = client.prepare(create.to_owned(), None).await.unwrap();
        let updated = prepared.execute_update().await;
        let mut raw = server.raw().await;
        let bearer = format!("Bearer {token}");
        let command = CommandStatementUpdate { query: create.replace("peaks", "tops"), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let put = stream::iter([FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() }]);
        let put = raw.do_put(with(put, Some(&bearer))).await.map(drop);
        let info = raw.get_flight_info(with(statement(&create.replace("peaks", "hills")), Some(&bearer))).await;
        let ticket = info.unwrap().into_inner().endpoint[0].ticket.clone().unwrap();
        let got = raw.do_get(with(ticket, Some(&bearer))).await.map(drop);
        match expect {
            None => assert!(updated.is_ok() && put.is_ok() && got.is_ok(), "{updated:?} {put:?} {got:?}"),
            Some(code) => {
                assert!(updated.is_err());
                let denied = (Code::PermissionDenied, code.to_owned());
                assert_eq!((refusal(&put.unwrap_err()), refusal(&got.unwrap_err())), (denied.clone(), denied));
            }
        }
    }
}

#[tokio::test]
async fn tickets_and_handles_are_of_no_use_to_others() {
    let server = FlightServer::guarded("q", "a").await;
    let mut raw = server.raw().await;
    let (query, admin) = (Some("Bearer q"), Some("Bearer a"));
    let info = raw.get_flight_info(with(statement("SELECT 1"), admin)).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let got = raw.do_get(with(ticket.clone(), query)).await.map(drop).unwrap_err();
    assert_eq!(refusal(&got), (Code::InvalidArgument, "bad_request".into()));
    assert!(raw.do_get(with(ticket, admin)).await.is_ok());

    let create = ActionCreatePreparedStatementRequest { query: "SELECT 1".to_owned(), transaction_id: None };
    // A body without a wrapper is read as well.
    for body in [create.as_any().encode_to_vec(), create.encode_to_vec()] {
        let action = Action { r#type: "CreatePreparedStatement".to_owned(), body: body.into() };
        let mut replies = raw.do_action(with(action, admin)).await.unwrap().into_inner();
        let reply = Any::decode(replies.message().await.unwrap().unwrap().body).unwrap();
        let created: ActionCreatePreparedStatementResult = reply.unpack().unwrap().unwrap();
        let handle = created.prepared_statement_handle;
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle };
        let descriptor = || FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let refused = raw.get_flight_info(with(descriptor(), query)).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::NotFound, "not_found".into()));
        assert!(raw.get_flight_info(with(descriptor(), admin)).await.is_ok());
    }
}
