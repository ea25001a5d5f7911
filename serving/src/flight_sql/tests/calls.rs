//! Statements, catalog calls, facts, definitions and sessions.

use arrow::array::AsArray;
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, IpcMessage};

use super::*;
use crate::flight_sql::messages::{
    CloseSessionResult, GetSessionOptionsResult, OptionValue, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult,
};
use crate::options::Options;

#[tokio::test]
async fn answers_are_those_of_the_engine_at_their_frontier() {
    let server = FlightServer::start().await;
    let (mut client, mut raw) = (server.client().await, server.raw().await);
    for sql in [
        "SELECT device, minute, readings, mean, amount FROM device_minutes ORDER BY device, minute",
        "SELECT * FROM sensor_data ORDER BY _partition, _offset",
        "SELECT * FROM totals",
        "SELECT * FROM totals WHERE false",
        "SELECT device, device FROM sensor_data LIMIT 0",
        "EXPLAIN SELECT 1",
        "SELECT 1 AS a, 'x' AS b, NULL AS c, arrow_cast('d', 'Dictionary(Int32, Utf8)') AS d, [1, NULL] AS e",
    ] {
        let expect = server.engine.run(sql, Options::default()).await.unwrap();
        let mut head = serde_json::json!({ "frontier": expect.frontier });
        if !expect.views.is_empty() {
            head["views"] = serde_json::to_value(&expect.views).unwrap();
        }
        let expect: Vec<RecordBatch> = expect.batches.try_collect().await.unwrap();
        let got = query(&mut client, sql).await;
        if !expect.is_empty() && !sql.starts_with("EXPLAIN") {
            // An answer without rows has no batch, and so no head in its picture.
            let rows = |lines: &[String]| lines.get(1..).unwrap_or_default().to_vec();
            assert_eq!(rows(&got), rows(&lines(&expect)), "{sql}");
        }
        let info = raw.get_flight_info(statement(sql)).await.unwrap().into_inner();
        let first = messages(&mut raw, info.endpoint[0].ticket.clone().unwrap()).await.unwrap().remove(0);
        for said in [&info.app_metadata, &first.app_metadata] {
            assert_eq!(serde_json::from_slice::<serde_json::Value>(said).unwrap(), head, "{sql}");
        }
        let schema = Schema::try_from(&first).unwrap();
        for (name, value) in head.as_object().unwrap() {
            let said = &schema.metadata()[&format!("thalweg-{name}")];
            assert_eq!(&serde_json::from_str::<serde_json::Value>(said).unwrap(), value, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_flight_says_how_its_answer_stands() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    let said = async |raw: &mut FlightServiceClient<Channel>, sql: &str| {
        let info = raw.get_flight_info(statement(sql)).await.unwrap().into_inner();
        serde_json::from_slice::<serde_json::Value>(&info.app_metadata).unwrap_or_default()
    };
    let whole = said(&mut raw, "SELECT * FROM totals").await;
    assert_eq!(whole["frontier"], serde_json::json!({"sensor_data": {"0": 9, "1": 7}}));
    assert_eq!(whole["views"]["totals"], server.world.view_id("totals").to_string());
    let batch = said(&mut raw, "SET thalweg.source = 'batch'; SELECT * FROM totals").await;
    assert_eq!(batch["frontier"], serde_json::json!({"sensor_data": {"0": 4, "1": 3}}));
    // What is not known at once is not said, and the flight is described all the same.
    server.world.alter(|snapshot| snapshot.caught_up = false);
    assert_eq!(said(&mut raw, "SELECT * FROM totals").await, serde_json::Value::Null);
    let mut stale = Request::new(statement("SELECT * FROM totals"));
    stale.metadata_mut().insert("thalweg-stale", "allow".parse().unwrap());
    let info = raw.get_flight_info(stale).await.unwrap().into_inner();
    let said: serde_json::Value = serde_json::from_slice(&info.app_metadata).unwrap();
    assert_eq!((&said["stale"], &said["frontier"]), (&serde_json::json!(true), &whole["frontier"]));
}

#[tokio::test]
async fn values_that_rows_share_are_written_out_piece_by_piece() {
    let server = FlightServer::with(|config| config.query_memory = 64 << 20).await;
    let mut raw = server.raw().await;
    // Written out at once, a batch of these rows has more bytes than its offsets can count.
    let shared = "SELECT arrow_cast(repeat('x', 400000), 'Dictionary(Int32, Utf8)') AS d FROM generate_series(1, 8000)";
    let long = ticket(&mut raw, shared).await.unwrap();
    let mut stream = raw.do_get(long).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    for _ in 0..20 {
        let message = stream.message().await.unwrap().unwrap();
        assert!((400_000..frames::FRAME_BYTES + 400_000).contains(&message.data_body.len()));
    }
    drop(stream);
    let one = "SELECT [d, d, d, d, d, d, d, d, d, d] AS l FROM (SELECT arrow_cast(repeat('x', 8000000), \
               'Dictionary(Int32, Utf8)') AS d)";
    let long = ticket(&mut raw, one).await.unwrap();
    let refused = messages(&mut raw, long).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test]
async fn a_described_query_has_not_run() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    // Running this fails.
    let fails = "SELECT 1 / (value - value) AS x FROM generate_series(1, 2)";
    let info = raw.get_flight_info(statement(fails)).await.unwrap().into_inner();
    assert_eq!(info.clone().try_decode_schema().unwrap().field(0).name(), "x");
    let schema = raw.get_schema(statement(fails)).await.unwrap().into_inner().schema;
    assert_eq!(Schema::try_from(IpcMessage(schema)).unwrap().field(0).name(), "x");
    let poll = raw.poll_flight_info(statement(fails)).await.unwrap().into_inner();
    assert!(poll.info.is_some() && poll.flight_descriptor.is_none());
    let failed = messages(&mut raw, info.endpoint[0].ticket.clone().unwrap()).await.unwrap_err();
    assert_eq!(refusal(&failed), (Code::InvalidArgument, "query_failed".into()), "{failed}");
}

#[tokio::test]
async fn refusals_have_a_code_and_a_place() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    for (sql, code, details) in [
        ("SELEC 1", Code::InvalidArgument, "syntax"),
        ("SELECT x FROM totals", Code::InvalidArgument, "invalid_query"),
        ("", Code::InvalidArgument, "empty"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "mixed_statements"),
        ("INSERT INTO totals VALUES (1)", Code::InvalidArgument, "refused"),
        ("SET thalweg.stale = 'perhaps'; SELECT 1", Code::InvalidArgument, "bad_option"),
    ] {
        let refused = raw.get_flight_info(statement(sql)).await.unwrap_err();
        assert_eq!(refusal(&refused), (code, details.into()), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn tables_are_streams_and_views() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(lines(&rows(&mut client, info).await), ["catalog_name", "thalweg"]);
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let schemas = lines(&rows(&mut client, info).await).len();
    assert!(schemas >= 5, "{schemas}");
    let info = client.get_table_types().await.unwrap();
    assert_eq!(lines(&rows(&mut client, info).await), ["table_type", "MATERIALIZED VIEW", "TABLE"]);

    let mut check = async |schema: Option<&str>, table: Option<&str>, types: &[&str], expect: &[&str]| {
        let command = CommandGetTables {
            catalog: None,
            db_schema_filter_pattern: schema.map(str::to_owned),
            table_name_filter_pattern: table.map(str::to_owned),
            table_types: types.iter().map(|name| (*name).to_owned()).collect(),
            include_schema: false,
        };
        let info = client.get_tables(command).await.unwrap();
        let got: Vec<String> = rows(&mut client, info).await.iter().flat_map(names).collect();
        assert_eq!(got, expect, "{schema:?} {table:?} {types:?}");
    };
    let view = |name| format!("{name} MATERIALIZED VIEW");
    let (busy, minutes, totals) = (view("public.busy"), view("public.device_minutes"), view("public.totals"));
    check(Some("public"), None, &[], &[&busy, &minutes, "public.sensor_data TABLE", &totals]).await;
    check(Some("public"), None, &["TABLE"], &["public.sensor_data TABLE"]).await;
    check(Some("public"), None, &["MATERIALIZED VIEW", "x"], &[&busy, &minutes, &totals]).await;
    check(Some("public"), None, &["VIEW"], &[]).await;
    check(Some("publi_"), Some("%\\_data"), &[], &["public.sensor_data TABLE"]).await;
    check(Some("public"), Some("sensor\\_d_ta"), &[], &["public.sensor_data TABLE"]).await;
    check(Some("public"), Some("sensor-%"), &[], &[]).await;
    check(Some("publi\\_"), None, &[], &[]).await;
    check(Some("rejects"), Some("%"), &[], &["rejects.sensor_data TABLE"]).await;
    check(Some(""), None, &[], &[]).await;
    check(None, Some("totals"), &[], &[&view("batch.totals"), &totals, &view("speed.totals")]).await;
}

fn names(batch: &RecordBatch) -> Vec<String> {
    let column = |at: usize| batch.column(at).as_string::<i32>();
    let row = |row| format!("{}.{} {}", column(1).value(row), column(2).value(row), column(3).value(row));
    (0..batch.num_rows()).map(row).collect()
}

#[tokio::test]
async fn columns_of_tables_are_those_of_their_rows() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(command).await.unwrap();
    let batches = rows(&mut client, info).await;
    for (batch, row) in batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row))) {
        let text = |at: usize| batch.column(at).as_string::<i32>().value(row).to_owned();
        let bytes = batch.column(4).as_binary::<i32>().value(row).to_vec();
        let columns = Schema::try_from(IpcMessage(bytes.into())).unwrap();
        let sql = format!("SELECT * FROM {}.{}", text(1), text(2));
        let info = client.execute(sql, None).await.unwrap();
        let selected = info.try_decode_schema().unwrap();
        let shape = |schema: &Schema| {
            let fields = schema.fields().iter();
            fields.map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
        };
        assert_eq!(shape(&columns), shape(&selected), "{}.{}", text(1), text(2));
        assert!(columns.fields().iter().all(|field| field.metadata().contains_key("ARROW:FLIGHT:SQL:TYPE_NAME")));
    }
}

#[tokio::test]
async fn there_are_no_keys() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let infos = [
        client.get_primary_keys(CommandGetPrimaryKeys::default()).await.unwrap(),
        client.get_exported_keys(CommandGetExportedKeys::default()).await.unwrap(),
        client.get_imported_keys(CommandGetImportedKeys::default()).await.unwrap(),
        client.get_cross_reference(CommandGetCrossReference::default()).await.unwrap(),
    ];
    for (info, columns) in infos.into_iter().zip([6, 13, 13, 13]) {
        assert_eq!(info.clone().try_decode_schema().unwrap().fields().len(), columns);
        assert_eq!(rows(&mut client, info).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn facts_are_answered_as_they_are_asked() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let info =
        client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::SqlTransactionsSupported]).await.unwrap();
    let expect = ["info_name | value", "0         | {string_value=Thalweg}", "563       | {bool_value=false}"];
    assert_eq!(lines(&rows(&mut client, info).await), expect);
    let info = client.get_sql_info(Vec::new()).await.unwrap();
    assert!(lines(&rows(&mut client, info).await).len() > 80);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(-5) }).await.unwrap();
    let types = rows(&mut client, info).await;
    let names: Vec<_> = types[0].column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(names, ["BIGINT", "BIGINT UNSIGNED"]);
    // A number that nobody knows has no fact; it does not ask for all.
    let none = super::facts::sql_info(&[99_999], 1).unwrap();
    assert_eq!(none.num_rows(), 0);
}

#[tokio::test]
async fn definitions_are_counted_or_shown() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let create = |name| format!("CREATE MATERIALIZED VIEW {name} AS SELECT max(temperature) AS peak FROM sensor_data");
    let two = format!("{}; {}", create("peaks"), create("summits"));
    assert_eq!(client.execute_update(two, None).await.unwrap(), 2);
    let shown = query(&mut client, &create("tops")).await;
    assert!(shown[0].starts_with("action") && shown[1].contains("tops"), "{shown:?}");
    let refused = client.execute_update("SELECT 1".to_owned(), None).await.unwrap_err();
    assert!(refused.to_string().contains("a query changes nothing"), "{refused}");
    let mut prepared = client.prepare(create("hills"), None).await.unwrap();
    assert!(prepared.dataset_schema().unwrap().fields().is_empty());
    assert_eq!(prepared.execute_update().await.unwrap(), 1);
}

#[tokio::test]
async fn there_are_no_transactions() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let refused = client.begin_transaction().await.unwrap_err().to_string();
    assert!(refused.contains("autocommit"), "{refused}");
    let id = || Some(vec![1].into());
    assert!(client.execute("SELECT 1".to_owned(), id()).await.unwrap_err().to_string().contains("autocommit"));
    assert!(client.prepare("SELECT 1".to_owned(), id()).await.unwrap_err().to_string().contains("autocommit"));
    assert!(client.execute_update("SELECT 1".to_owned(), id()).await.unwrap_err().to_string().contains("autocommit"));
}

#[tokio::test]
async fn options_come_from_headers_and_sessions() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    let with = |name: &'static str, value: &str| {
        let mut request = Request::new(statement("SELECT 1"));
        request.metadata_mut().insert(name, value.parse().unwrap());
        request
    };
    assert!(raw.get_flight_info(with("thalweg-stale", "allow")).await.is_ok());
    let refused = raw.get_flight_info(with("thalweg-stale", "perhaps")).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::InvalidArgument, "bad_option".into()));
    // The frontier of the session is one that no answer has reached.
    let text = |text: &str| SessionOptionValue { option_value: Some(OptionValue::Text(text.to_owned())) };
    let far = r#"{"sensor_data":{"0":1000}}"#;
    let set = SetSessionOptionsRequest {
        session_options: HashMap::from([
            ("thalweg.min_frontier".to_owned(), text(far)),
            ("thalweg.partial".to_owned(), SessionOptionValue { option_value: Some(OptionValue::Bool(true)) }),
            ("thalweg.stale".to_owned(), text("perhaps")),
            ("catalog".to_owned(), text("thalweg")),
            ("schema".to_owned(), text("other")),
            ("colour".to_owned(), text("blue")),
        ]),
    };
    let reply = act(&mut raw, "SetSessionOptions", set.encode_to_vec(), None).await.unwrap();
    let faults = SetSessionOptionsResult::decode(&*reply.0).unwrap().errors;
    let mut faults: Vec<_> = faults.into_iter().map(|(name, fault)| (name, fault.value)).collect();
    faults.sort();
    assert_eq!(faults, [("colour".to_owned(), 1), ("schema".to_owned(), 2), ("thalweg.stale".to_owned(), 2)]);
    let cookie = reply.1.unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let reply = act(&mut raw, "GetSessionOptions", Vec::new(), Some(cookie)).await.unwrap();
    let options = GetSessionOptionsResult::decode(&*reply.0).unwrap().session_options;
    assert_eq!(options.len(), 3);
    assert_eq!(options["thalweg.partial"], text("allow"));

    let mut asked = Request::new(statement("SELECT * FROM totals"));
    asked.metadata_mut().insert("cookie", cookie.parse().unwrap());
    let info = raw.get_flight_info(asked).await.unwrap().into_inner();
    // The ticket has the options of its call.
    let refused = messages(&mut raw, info.endpoint[0].ticket.clone().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    let reply = act(&mut raw, "CloseSession", Vec::new(), Some(cookie)).await.unwrap();
    assert_eq!(CloseSessionResult::decode(&*reply.0).unwrap().status, 1);
    for action in ["GetSessionOptions", "CloseSession"] {
        let refused = act(&mut raw, action, Vec::new(), Some(cookie)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{action}");
    }
}

/// The reply to an action, and the cookie that it sets.
async fn act(
    raw: &mut FlightServiceClient<Channel>,
    name: &str,
    body: Vec<u8>,
    cookie: Option<&str>,
) -> Result<(Vec<u8>, Option<String>), Status> {
    let mut request = Request::new(Action { r#type: name.to_owned(), body: body.into() });
    if let Some(cookie) = cookie {
        request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    }
    let response = raw.do_action(request).await?;
    let cookie = response.metadata().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    let replies: Vec<_> = response.into_inner().try_collect().await?;
    Ok((replies.into_iter().next().map(|reply| reply.body.to_vec()).unwrap_or_default(), cookie))
}

#[tokio::test]
async fn a_running_query_is_cancelled_by_its_flight() {
    let server = FlightServer::start().await;
    let mut raw = server.raw().await;
    let long = "SELECT a.value FROM generate_series(1, 100000000) AS a";
    let info = raw.get_flight_info(statement(long)).await.unwrap().into_inner();
    let cancel = CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec();
    let status = async |raw: &mut FlightServiceClient<Channel>| {
        let (reply, _) = act(raw, "CancelFlightInfo", cancel.clone(), None).await.unwrap();
        CancelFlightInfoResult::decode(&*reply).unwrap().status
    };
    assert_eq!(status(&mut raw).await, 3);
    let mut stream = raw.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap().into_inner();
    stream.message().await.unwrap();
    assert_eq!(status(&mut raw).await, 1);
    let ended: Result<Vec<FlightData>, Status> = stream.try_collect().await;
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
    assert_eq!(status(&mut raw).await, 3);
}
