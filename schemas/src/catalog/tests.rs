//! The catalog through its public interface, over an object store that injects faults.

mod columns;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use thalweg_kit::store::{FaultyStore, Trap, Trouble};
use url::Url;

use super::*;
use crate::definition;
use crate::warehouse::Warehouse;
use crate::{Error, Fault, Result};

pub(super) const STREAM: &str =
    "CREATE EXTERNAL TABLE s (a INT, b STRING) STORED AS KAFKA LOCATION 't' OPTIONS ('kafka.client.id' '1')";
pub(super) const VIEW: &str = "CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n FROM s GROUP BY b";

pub(super) struct Fixture {
    store: Arc<FaultyStore>,
    pub(super) catalogs: CatalogStore,
}

impl Fixture {
    fn new() -> Self {
        let store = FaultyStore::in_memory();
        let url = Url::parse("memory:///").unwrap();
        let catalogs = CatalogStore::new(Warehouse::over(url, store.clone()));
        Self { store, catalogs }
    }

    pub(super) async fn with(sql: &[&str]) -> Self {
        let fixture = Self::new();
        for sql in sql {
            fixture.apply(sql).await.unwrap();
        }
        fixture
    }

    pub(super) async fn apply(&self, sql: &str) -> Result<Vec<String>> {
        let applied = self.catalogs.apply(definition::parse(sql)?).await?;
        Ok(applied.into_iter().map(|a| a.action).collect())
    }

    #[track_caller]
    pub(super) fn refused(&self, result: Result<Vec<String>>, expect: &str) {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(error.fault(), Fault::User, "{error}");
    }

    pub(super) async fn load(&self) -> Arc<Catalog> {
        self.catalogs.load().await.unwrap()
    }

    /// Publishes the view that is being built for `v`.
    pub(super) async fn promote(&self) -> Arc<Catalog> {
        let catalog = self.load().await;
        let built = catalog.views[&view("v")].building.clone().unwrap();
        let id = built.plan.id();
        self.catalogs.promote(&view("v"), id).await.unwrap()
    }

    /// Makes the stream `s` look archived.
    pub(super) async fn archive(&self) {
        let path = Warehouse::master_path(&stream("s")).join("_delta_log").join("0.json");
        self.store.put(&path, PutPayload::from_static(b"{}")).await.unwrap();
    }

    /// Returns the text of a version's file.
    pub(super) async fn text(&self, version: u64) -> String {
        let path = Path::from(format!("catalog/{version:08}.json"));
        let bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Rewrites the text of a version's file.
    pub(super) async fn tamper(&self, version: u64, edit: impl FnOnce(String) -> String) {
        let path = Path::from(format!("catalog/{version:08}.json"));
        let text = edit(self.text(version).await);
        self.store.put(&path, PutPayload::from(text.into_bytes())).await.unwrap();
    }
}

pub(super) fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(super) fn view(name: &str) -> ViewName {
    ViewName::new(name).unwrap()
}

/// Returns whether `v` has a served view and one that is being built.
pub(super) fn sides(catalog: &Arc<Catalog>) -> (bool, bool) {
    let view = &catalog.views[&view("v")];
    (view.serving.is_some(), view.building.is_some())
}

#[tokio::test]
async fn statements_of_one_request_are_one_version() {
    let f = Fixture::new();
    assert_eq!(f.load().await.version, 0);
    let done = f.apply(&format!("{STREAM}; {VIEW}")).await.unwrap();
    assert_eq!(done, ["created stream s", "created view v"]);
    let catalog = f.load().await;
    assert_eq!(catalog.version, 1);
    assert_eq!(catalog.streams[&stream("s")].definition.sql, STREAM);
    assert_eq!(sides(&catalog), (false, true));
    assert_eq!(catalog.compiled().count(), 1);
    assert_eq!(catalog.views_of(&stream("s")).count(), 1);
    assert_eq!(catalog.views_of(&stream("other")).count(), 0);
}

#[tokio::test]
async fn a_request_applies_whole_or_not_at_all() {
    let f = Fixture::new();
    f.refused(f.apply(&format!("{STREAM}; DROP VIEW x")).await, "view `x` does not exist");
    assert_eq!(f.load().await.version, 0);
    f.refused(f.apply(&format!("{STREAM}; SELECT 1")).await, "is a query");
    f.refused(f.apply(VIEW).await, "stream `s` does not exist");
    f.refused(f.apply(&format!("{STREAM}; {STREAM}")).await, "exists already");
    assert_eq!(f.load().await.version, 0);
}

#[tokio::test]
async fn existing_names() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    f.refused(f.apply(STREAM).await, "the stream `s` exists already");
    f.refused(f.apply(VIEW).await, "the view `v` exists already");
    f.refused(f.apply(&VIEW.replace("VIEW v", "VIEW s")).await, "the stream `s` exists already");
    f.refused(f.apply(&STREAM.replace("TABLE s", "TABLE v")).await, "the view `v` exists already");
    let unless = STREAM.replace("TABLE s", "TABLE IF NOT EXISTS s");
    assert_eq!(f.apply(&unless).await.unwrap(), ["stream s exists already"]);
    let unless = VIEW.replace("VIEW v", "VIEW IF NOT EXISTS v");
    assert_eq!(f.apply(&unless).await.unwrap(), ["view v exists already"]);
    let gone = f.apply("DROP TABLE IF EXISTS x; DROP VIEW IF EXISTS x").await.unwrap();
    assert_eq!(gone, ["there is no stream x", "there is no view x"]);
    assert_eq!(f.load().await.version, 2, "nothing changed, so nothing was written");
}

#[tokio::test]
async fn a_stream_is_dropped_after_its_views() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    f.refused(f.apply("DROP TABLE s").await, "read by the views `v`");
    let done = f.apply("DROP VIEW v; DROP TABLE s").await.unwrap();
    assert_eq!(done, ["dropped view v", "dropped stream s; its archive is kept"]);
    let catalog = f.load().await;
    assert!(catalog.streams.is_empty() && catalog.views.is_empty());
    f.refused(f.apply("DROP TABLE s").await, "does not exist");
}

#[tokio::test]
async fn a_view_is_served_once_it_is_built() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    assert_eq!(sides(&f.promote().await), (true, false));
    let served = f.load().await.views[&view("v")].serving.clone().unwrap();

    let same = VIEW.replace("CREATE", "CREATE OR REPLACE").replace("SELECT", "SELECT  ");
    assert_eq!(f.apply(&same).await.unwrap(), ["view v is as it was"]);

    let other = same.replace("count(*)", "sum(a)");
    let done = f.apply(&other).await.unwrap();
    assert_eq!(done, ["replaced view v; it is served once it is built"]);
    assert_eq!(sides(&f.load().await), (true, true));
    assert_eq!(f.apply(&other).await.unwrap(), ["view v is as it was"]);

    let unchanged = f.catalogs.promote(&view("v"), served.plan.id()).await.unwrap();
    assert_eq!(sides(&unchanged), (true, true), "only what is being built can be promoted");
    assert_eq!(f.apply(&same).await.unwrap(), ["view v stays what it serves"]);
    assert_eq!(sides(&f.load().await), (true, false));

    f.apply(&other).await.unwrap();
    let promoted = f.promote().await;
    assert_eq!(sides(&promoted), (true, false));
    let now = promoted.views[&view("v")].serving.clone().unwrap();
    assert_ne!(now.plan.id(), served.plan.id());
    let missing = f.catalogs.promote(&view("x"), now.plan.id()).await;
    assert_eq!(missing.unwrap_err().fault(), Fault::User);
}

#[tokio::test]
async fn what_an_archive_or_a_view_depends_on_stays() {
    let f = Fixture::with(&[STREAM]).await;
    let replace = STREAM.replace("CREATE", "CREATE OR REPLACE");
    let columns = replace.replace("a INT", "a BIGINT");
    assert_eq!(f.apply(&columns).await.unwrap(), ["replaced stream s"]);
    f.apply(&replace).await.unwrap();

    f.apply(VIEW).await.unwrap();
    f.promote().await;
    f.refused(f.apply(&columns).await, "its columns cannot change");
    f.refused(f.apply(&replace.replace("'t'", "'u'")).await, "its topic cannot change");
    let done = f.apply(&replace.replace("'1'", "'2'")).await.unwrap();
    assert_eq!(done, ["replaced stream s"]);
    let catalog = f.load().await;
    assert_eq!(catalog.streams[&stream("s")].definition.kafka["client.id"], "2");
    assert_eq!(sides(&catalog), (true, false), "options are no part of a view's meaning");

    f.apply("DROP VIEW v").await.unwrap();
    f.archive().await;
    f.refused(f.apply(&columns).await, "its columns cannot change");
}

#[tokio::test]
async fn origins_are_recorded_once() {
    let f = Fixture::with(&[STREAM]).await;
    let record = async |origin| f.catalogs.record_origin(&stream("s"), &origin).await.unwrap();
    let origin = |catalog: &Catalog| catalog.streams[&stream("s")].origin.clone();
    assert_eq!(origin(&*record(Frontier::from([(0, 5)])).await), Frontier::from([(0, 5)]));
    assert_eq!(origin(&*record(Frontier::from([(0, 9), (1, 0)])).await), Frontier::from([(0, 5), (1, 0)]));
    let version = f.load().await.version;
    record(Frontier::from([(1, 7)])).await;
    assert_eq!(f.load().await.version, version);
    assert_eq!(origin(&*f.load().await), Frontier::from([(0, 5), (1, 0)]));
    f.apply(&STREAM.replace("CREATE", "CREATE OR REPLACE").replace("'1'", "'3'")).await.unwrap();
    assert_eq!(origin(&*f.load().await), Frontier::from([(0, 5), (1, 0)]));
    assert!(f.catalogs.record_origin(&stream("x"), &Frontier::from([(0, 1)])).await.is_err());
}

#[tokio::test]
async fn a_stream_created_again_goes_on_with_its_archive() {
    let f = Fixture::with(&[STREAM]).await;
    f.catalogs.record_origin(&stream("s"), &Frontier::from([(0, 5)])).await.unwrap();
    f.archive().await;
    f.apply("DROP TABLE s").await.unwrap();
    f.refused(f.apply(&STREAM.replace("a INT", "a DATE")).await, "its columns cannot change");
    let done = f.apply(STREAM).await.unwrap();
    assert_eq!(done, ["created stream s over its archive"]);
    let catalog = f.load().await;
    assert_eq!(catalog.streams[&stream("s")].origin, Frontier::from([(0, 5)]));
    assert!(catalog.dropped.is_empty());

    let f = Fixture::with(&[STREAM]).await;
    f.catalogs.record_origin(&stream("s"), &Frontier::from([(0, 5)])).await.unwrap();
    f.apply("DROP TABLE s").await.unwrap();
    f.apply(&STREAM.replace("a INT", "a DATE")).await.unwrap();
    assert!(f.load().await.streams[&stream("s")].origin.is_empty(), "nothing was archived");
}

#[tokio::test]
async fn a_stream_that_starts_over_has_views_of_other_ids() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    let known = async || {
        let catalog = f.load().await;
        let built = catalog.views[&view("v")].building.as_ref().unwrap().plan.id().clone();
        // A process that reads the file anew finds the same.
        let store = Warehouse::over(Url::parse("memory:///").unwrap(), f.store.clone());
        let fresh = CatalogStore::new(store).load().await.unwrap();
        assert_eq!(fresh.views[&view("v")].building.as_ref().unwrap().plan.id(), &built);
        (built, catalog.streams[&stream("s")].predecessors)
    };
    let again = async || {
        for sql in ["DROP VIEW v", "DROP TABLE s", STREAM, VIEW] {
            f.apply(sql).await.unwrap();
        }
        known().await
    };
    let first = known().await;
    assert_eq!(first.1, 0);
    assert_eq!(again().await, first, "the first stream was never read");
    f.catalogs.record_origin(&stream("s"), &Frontier::from([(0, 5)])).await.unwrap();
    let second = again().await;
    assert!(second.1 == 1 && second.0 != first.0);
    assert_eq!(again().await, second);
    f.catalogs.record_origin(&stream("s"), &Frontier::from([(0, 5)])).await.unwrap();
    let third = again().await;
    assert!(third.1 == 2 && third.0 != second.0 && third.0 != first.0);
    f.catalogs.record_origin(&stream("s"), &Frontier::from([(0, 5)])).await.unwrap();
    f.archive().await;
    assert_eq!(again().await, third, "a stream over its archive goes on");
}

#[tokio::test]
async fn refresh_sees_what_others_wrote() {
    let f = Fixture::with(&[STREAM]).await;
    let known = f.load().await;
    assert!(f.catalogs.refresh(&known).await.unwrap().is_none());
    f.apply(VIEW).await.unwrap();
    f.apply("DROP VIEW v").await.unwrap();
    let newer = f.catalogs.refresh(&known).await.unwrap().unwrap();
    assert_eq!(newer.version, 3);
    assert!(newer.views.is_empty());
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let f = Fixture::with(&[STREAM]).await;
    let sql = |i: usize| VIEW.replace("VIEW v", &format!("VIEW v{i}"));
    let writers = (0..6).map(|i| {
        let catalogs = f.catalogs.clone();
        tokio::spawn(async move { catalogs.apply(definition::parse(&sql(i)).unwrap()).await })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap().unwrap();
    }
    let catalog = f.load().await;
    assert_eq!(catalog.version, 7);
    assert_eq!(catalog.views.len(), 6);
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_happens_once() {
    let lists: [&[Trap]; 4] = [
        &[Trap::LandsAndFails],
        &[Trap::LandsAndExists],
        &[Trap::Lost],
        &[Trap::Lost, Trap::Lost, Trap::LandsAndFails],
    ];
    for traps in lists {
        let f = Fixture::new();
        f.store.set(Trouble::Traps(traps));
        assert_eq!(f.apply(STREAM).await.unwrap(), ["created stream s"], "{traps:?}");
        let catalog = f.load().await;
        assert_eq!((catalog.version, catalog.streams.len()), (1, 1), "{traps:?}");
    }
    let f = Fixture::new();
    f.store.set(Trouble::Traps(&[Trap::Lost; 20]));
    assert_eq!(f.apply(STREAM).await.unwrap_err().fault(), Fault::Transient);
    assert_eq!(f.load().await.version, 0);
}

/// The second of two writers finds the first one's file and decides again. Here it finds that the name is taken.
#[tokio::test]
async fn a_lost_race_is_decided_anew() {
    let f = Fixture::with(&[STREAM]).await;
    let (one, two) = tokio::join!(f.apply(VIEW), f.apply(VIEW));
    assert!(one.is_ok() != two.is_ok());
    f.refused(one.and(two), "exists already");
    assert_eq!(f.load().await.version, 2);
}

#[tokio::test]
async fn states_of_another_engine_are_built_anew() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    let served = f.promote().await;
    let id = served.views[&view("v")].serving.clone().unwrap().plan.id().to_string();
    f.tamper(served.version, |text| text.replace(&id, "0123456789abcdef0123456789abcdef")).await;
    let catalog = f.load().await;
    assert_eq!(sides(&catalog), (false, true));
    assert!(catalog.views[&view("v")].is_rebuilt_for_engine());
    // Until it is built, processes of the other engine go on serving it.
    f.apply(&STREAM.replace("TABLE s", "TABLE t")).await.unwrap();
    assert!(f.text(served.version + 1).await.contains("0123456789abcdef0123456789abcdef"));
    assert_eq!(f.promote().await.version, served.version + 2);
    assert_eq!(sides(&f.load().await), (true, false));
    assert!(!f.load().await.views[&view("v")].is_rebuilt_for_engine());
}

#[tokio::test]
async fn files_that_cannot_be_understood_are_named() {
    let broken: [fn(String) -> String; 2] = [|_| "{".into(), |text| text.replace("\"version\": 1", "\"version\": 7")];
    for edit in broken {
        let f = Fixture::with(&[STREAM]).await;
        f.tamper(1, edit).await;
        match f.catalogs.load().await {
            Err(Error::ReadCatalog { path, .. }) => assert_eq!(path, "catalog/00000001.json"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_version_that_cannot_be_read_leaves_the_follower_at_the_last_one() {
    let f = Fixture::with(&[STREAM]).await;
    let (follower, mut shown) = CatalogFollower::open(f.catalogs.clone()).await.unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let mut following = tokio::spawn(follower.run(cancel.clone()));
    let path = Warehouse::catalog_path().join("00000002.json");
    f.store.put(&path, PutPayload::from_static(b"{")).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_millis(1200), &mut following).await;
    assert!(ended.is_err(), "the follower ended: {ended:?}");
    assert_eq!(shown.borrow_and_update().version, 1);
    f.store
        .put(&path, PutPayload::from(f.text(1).await.replacen("\"version\": 1", "\"version\": 2", 1)))
        .await
        .unwrap();
    shown.wait_for(|catalog| catalog.version == 2).await.unwrap();
    cancel.cancel();
    following.await.unwrap().unwrap();
}

#[tokio::test]
async fn definitions_that_are_applied_at_every_start_are_no_conflict() {
    let f = Fixture::with(&[STREAM, VIEW]).await;
    let again = async |sql: &str| -> Result<Vec<String>> {
        let applied = f.catalogs.apply_again(definition::parse(sql)?).await?;
        Ok(applied.into_iter().map(|a| a.action).collect())
    };
    let rewritten = STREAM.replace(" (a INT", "\n  ( a   int");
    let both = format!("{rewritten}; {}", VIEW.replace("SELECT", "select"));
    assert_eq!(again(&both).await.unwrap(), ["stream s is as it was", "view v is as it was"]);
    f.promote().await;
    assert_eq!(again(&both).await.unwrap(), ["stream s is as it was", "view v is as it was"]);
    assert_eq!(f.load().await.version, 3);
    f.refused(again(&STREAM.replace("a INT", "a BIGINT")).await, "the stream `s` exists already");
    f.refused(again(&STREAM.replace("'1'", "'2'")).await, "the stream `s` exists already");
    for option in ["'timestamp_unit' 'ms'", "'keep' 'row'", "'connection' 'eu'", "'event_time' 'at'"] {
        let changed =
            rewritten.replace("a   int", "a int, at TIMESTAMP").replace("OPTIONS (", &format!("OPTIONS ({option}, "));
        f.refused(again(&changed).await, "the stream `s` exists already");
    }
    f.refused(again(&VIEW.replace("count(*)", "sum(a)")).await, "the view `v` exists already");
    let other = VIEW.replace("CREATE", "CREATE OR REPLACE").replace("count(*)", "sum(a)");
    f.apply(&other).await.unwrap();
    f.refused(again(VIEW).await, "the view `v` exists already");
}

#[tokio::test]
async fn other_files_in_the_folder_do_no_harm() {
    let f = Fixture::with(&[STREAM]).await;
    for name in ["notes.txt", "0.json", "99999999.json.tmp"] {
        let path = Warehouse::catalog_path().join(name);
        f.store.put(&path, PutPayload::from_static(b"x")).await.unwrap();
    }
    assert_eq!(f.load().await.version, 1);
}

#[tokio::test]
async fn comments_stay_while_the_name_does() {
    let fixture = Fixture::with(&[STREAM, VIEW]).await;
    fixture.apply("COMMENT ON TABLE s IS 'all'; COMMENT ON COLUMN s.b IS 'the b'").await.unwrap();
    fixture.apply("COMMENT ON MATERIALIZED VIEW v IS 'sums'; COMMENT ON COLUMN v.n IS 'how many'").await.unwrap();
    let catalog = fixture.load().await;
    assert_eq!(catalog.comments["s"].object.as_deref(), Some("all"));
    assert_eq!(catalog.comments["v"].columns["n"], "how many");
    let again = fixture.apply("COMMENT ON TABLE s IS 'all'").await.unwrap();
    assert_eq!(again, ["the comment on s is as it was"]);
    assert_eq!(fixture.load().await.version, catalog.version);

    let replaced = VIEW.replace("CREATE", "CREATE OR REPLACE").replace("count(*) AS n", "count(a) AS n");
    fixture.apply(&replaced).await.unwrap();
    assert_eq!(fixture.load().await.comments["v"], catalog.comments["v"]);
    fixture.apply("DROP MATERIALIZED VIEW v").await.unwrap();
    fixture.apply(VIEW).await.unwrap();
    assert!(!fixture.load().await.comments.contains_key("v"));

    fixture.apply("COMMENT ON COLUMN s.b IS NULL; COMMENT ON TABLE s IS NULL").await.unwrap();
    assert!(fixture.load().await.comments.is_empty());
}

#[tokio::test]
async fn a_comment_is_on_something() {
    let fixture = Fixture::with(&[STREAM, VIEW]).await;
    fixture.refused(fixture.apply("COMMENT ON TABLE v IS 'a'").await, "does not exist");
    fixture.refused(fixture.apply("COMMENT ON VIEW s IS 'a'").await, "does not exist");
    fixture.refused(fixture.apply("COMMENT ON COLUMN s.z IS 'a'").await, "no column `z`");
    fixture.refused(fixture.apply("COMMENT ON COLUMN z.a IS 'a'").await, "does not exist");
    let nothing = fixture.apply("COMMENT IF EXISTS ON TABLE z IS 'a'").await.unwrap();
    assert_eq!(nothing, ["there is no stream z"]);
}

#[tokio::test]
async fn comments_of_a_newer_version_survive() {
    let fixture = Fixture::with(&[STREAM, VIEW, "COMMENT ON TABLE s IS 'all'"]).await;
    let newest = fixture.load().await.version;
    fixture.tamper(newest, |text| text.replacen("\"comment\"", "\"comment\":\"all\",\"by\"", 1)).await;
    let catalogs = CatalogStore::new(Warehouse::over(Url::parse("memory:///").unwrap(), fixture.store.clone()));
    assert!(catalogs.load().await.unwrap().comments.is_empty());
    catalogs.apply(definition::parse("COMMENT ON VIEW v IS 'sums'").unwrap()).await.unwrap();
    let text = fixture.text(newest + 1).await;
    assert!(text.contains("\"by\"") && text.contains("sums"), "{text}");
    let refused = catalogs.apply(definition::parse("COMMENT ON TABLE s IS 'a'").unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}
