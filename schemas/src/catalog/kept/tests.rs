//! Definitions of a newer version: kept as they are, and no hindrance to anything else.

use crate::catalog::tests::{Fixture, STREAM, VIEW, sides, stream, view};

/// A definition of a newer version is kept as text, whatever part of it is new.
#[tokio::test]
async fn a_definition_that_is_not_understood_is_kept_and_stops_nothing_else() {
    let other = VIEW.replace("VIEW v", "VIEW w").replace("count(*)", "sum(a)");
    let newer: [(&str, &str, &str); 5] = [
        ("count(*) AS n", "count_up(*) AS n", "count_up"),
        ("MATERIALIZED VIEW v AS", "MATERIALIZED VIEW v WITH (tiers = 2) AS", ""),
        ("\"building\": {\n        \"id\"", "\"building\": {\n        \"tier\": 2,\n        \"id\"", "tier"),
        ("\"v\": {", "\"v\": {\n      \"shards\": [1, 2.50],", "shards"),
        ("GROUP BY b", "GROUP BY b, nothing", "nothing"),
    ];
    for (from, to, reason) in newer {
        let f = Fixture::with(&[STREAM, VIEW, &other]).await;
        f.tamper(3, |text| text.replacen(from, to, 1)).await;
        let catalog = f.load().await;
        let kept = catalog.views[&view("v")].not_understood().map(str::to_owned);
        assert!(kept.as_ref().is_some_and(|why| why.contains(reason)), "{to}: {kept:?}");
        assert_eq!(sides(&catalog), (false, false));
        assert!(catalog.views[&view("w")].building.is_some());
        let entry = |text: &str| {
            let at = text.find("\"v\": {").unwrap();
            text[at..].split("\n    }").next().unwrap().to_owned()
        };
        let before = entry(&f.text(3).await);
        // A statement about another definition writes the entry as it was.
        f.apply("DROP VIEW w").await.unwrap();
        assert_eq!(entry(&f.text(4).await), before, "{to}");
        // A stream that an unknown text may read stays.
        f.refused(f.apply("DROP TABLE s").await, "read by the views `v`");
        f.refused(f.apply(VIEW).await, "the view `v` exists already");
        let replace = VIEW.replace("CREATE", "CREATE OR REPLACE");
        f.apply(&replace).await.unwrap();
        assert_eq!(sides(&f.load().await), (false, true));
        assert_eq!(f.load().await.views[&view("v")].not_understood(), None);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_understood_is_kept_with_its_views() {
    let pulsar = STREAM.replace("TABLE s", "TABLE t");
    let f = Fixture::with(&[STREAM, VIEW, &pulsar]).await;
    f.tamper(3, |text| text.replacen("STORED AS KAFKA", "STORED AS PULSAR", 1)).await;
    let catalog = f.load().await;
    let reason = catalog.kept_streams[&stream("s")].reason.clone().unwrap();
    assert!(reason.contains("PULSAR"), "{reason}");
    assert_eq!(catalog.streams.keys().collect::<Vec<_>>(), [&stream("t")]);
    assert_eq!(catalog.views[&view("v")].not_understood(), Some("its stream `s` is not understood"));
    for sql in
        [STREAM, &STREAM.replace("CREATE", "CREATE OR REPLACE"), "DROP TABLE s", &VIEW.replace("VIEW v", "VIEW x")]
    {
        f.refused(f.apply(sql).await, "newer version");
    }
    f.apply("DROP TABLE t").await.unwrap();
    // Once this process understands it, nothing is lost.
    f.tamper(4, |text| text.replacen("STORED AS PULSAR", "STORED AS KAFKA", 1)).await;
    let catalog = f.load().await;
    assert_eq!(catalog.streams[&stream("s")].definition.sql, STREAM);
    assert_eq!(sides(&catalog), (false, true));
}

#[tokio::test]
async fn names_and_keys_of_a_newer_version_survive() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    f.tamper(2, |text| text.replacen("\"v\": {", "\"Über\": {\"sql\": 1},\n    \"v\": {", 1)).await;
    f.tamper(2, |text| text.replacen("{", "{\n  \"quotas\": {\"s\": 0.10},", 1)).await;
    assert_eq!(sides(&f.load().await), (false, true));
    f.apply("DROP VIEW v").await.unwrap();
    let text = f.text(3).await;
    assert!(text.contains("\"Über\": {\"sql\": 1}"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["quotas"], serde_json::json!({"s": 0.1}));
}

#[tokio::test]
async fn an_old_view_does_not_take_the_place_of_a_definition_that_is_not_understood() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    f.promote().await;
    let served = f.load().await.views[&view("v")].serving.clone().unwrap();
    let id = served.plan.id().as_str();
    // Another engine serves the view, and a newer version's definition is being built.
    let newer = VIEW.replace("VIEW v", "VIEW v WITH (tiers = 2)");
    f.tamper(3, |text| {
        let building = format!("\"building\": {{\"id\": \"00ff\", \"sql\": \"{newer}\"}},\n      \"serving\": {{");
        text.replace(id, "00aa").replacen("\"serving\": {", &building, 1)
    })
    .await;
    let before = f.load().await;
    assert!(before.views[&view("v")].not_understood().is_some());
    assert_eq!(sides(&before), (false, true));
    f.promote().await;
    assert!(f.text(f.load().await.version).await.contains("tiers = 2"));
}

#[tokio::test]
async fn a_dropped_stream_that_is_not_understood_keeps_its_origin() {
    let f = Fixture::with(&[STREAM]).await;
    f.catalogs
        .record_origin(&stream("s"), &[(crate::Partition(0), crate::Offset(7))].into_iter().collect())
        .await
        .unwrap();
    f.archive().await;
    f.apply("DROP TABLE s").await.unwrap();
    f.tamper(3, |text| text.replacen("STORED AS KAFKA", "STORED AS PULSAR", 1)).await;
    f.refused(f.apply(STREAM).await, "newer version");
    f.tamper(3, |text| text.replacen("STORED AS PULSAR", "STORED AS KAFKA", 1)).await;
    f.apply(STREAM).await.unwrap();
    assert_eq!(f.load().await.streams[&stream("s")].origin.get(crate::Partition(0)), crate::Offset(7));
}
