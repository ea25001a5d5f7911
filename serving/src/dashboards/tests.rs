//! Dashboards over a real folder: names, sizes, versions, and editors that save at the same time.

use futures::future::join_all;
use thalweg_schemas::api::dashboards::Tile;

use super::*;

fn dashboards() -> (tempfile::TempDir, Dashboards) {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Warehouse::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    (folder, Dashboards::of(&warehouse))
}

fn titled(title: &str) -> Dashboard {
    Dashboard { title: title.to_owned(), refresh_seconds: 5, tiles: Vec::new() }
}

fn tile(title: &str, sql: &str) -> Tile {
    let (title, sql) = (title.to_owned(), sql.to_owned());
    Tile { title, sql, kind: TileKind::Bars, x: None, y: Vec::new(), by: None, wide: false }
}

fn change(version: u64, title: &str) -> DashboardChange {
    DashboardChange { version, dashboard: titled(title) }
}

#[test]
fn names_are_plain() {
    for name in ["a", "9", "machines", "a-b_c", &"x".repeat(63)] {
        assert!(is_name(name), "{name}");
    }
    for name in
        ["", "A", "-a", "_a", ".", "..", "a.b", "a/b", "a\\b", "a b", "ä", "demo:machines", "%2e", &"x".repeat(64)]
    {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn dashboards_have_limits() {
    let check = |change: &dyn Fn(&mut Dashboard), expect: bool| {
        let mut dashboard = titled("t");
        change(&mut dashboard);
        assert_eq!(check(&dashboard).is_ok(), expect, "{:?}", dashboard.title);
    };
    check(&|_| (), true);
    check(&|d| d.title = "ä".repeat(200), true);
    check(&|d| d.title = "ä".repeat(201), false);
    check(&|d| d.title = " ".into(), false);
    check(&|d| d.refresh_seconds = 0, false);
    check(&|d| d.refresh_seconds = 3600, true);
    check(&|d| d.refresh_seconds = 3601, false);
    check(&|d| d.tiles = vec![tile("", "SELECT 1"); 100], true);
    check(&|d| d.tiles = vec![tile("", "SELECT 1"); 101], false);
    check(&|d| d.tiles = vec![tile(&"x".repeat(201), "")], false);
    check(&|d| d.tiles = vec![tile("", &"x".repeat(LONGEST))], false);
    check(&|d| d.tiles = vec![Tile { kind: TileKind::Unknown, ..tile("", "") }], false);
}

#[tokio::test]
async fn versions_follow_each_other() {
    let (_folder, all) = dashboards();
    assert!(matches!(all.read("a").await, Err(Error::FindDashboard { .. })));
    assert!(matches!(all.save("a", change(1, "x")).await, Err(Error::SaveDashboard { .. })));
    assert_eq!(all.save("a", change(0, "one")).await.unwrap().version, 1);
    assert!(matches!(all.save("a", change(0, "x")).await, Err(Error::SaveDashboard { .. })));
    assert_eq!(all.save("a", change(1, "two")).await.unwrap().version, 2);
    assert!(matches!(all.save("a", change(1, "x")).await, Err(Error::SaveDashboard { .. })));
    assert_eq!(all.read("a").await.unwrap().dashboard, titled("two"));
    let entry = DashboardEntry { name: "a".into(), version: 2, title: "two".into() };
    assert_eq!(all.list().await.unwrap().dashboards, [entry]);
}

#[tokio::test]
async fn numbers_go_on_after_a_deletion() {
    let (_folder, all) = dashboards();
    assert!(matches!(all.delete("a", 1).await, Err(Error::FindDashboard { .. })));
    all.save("a", change(0, "one")).await.unwrap();
    assert!(matches!(all.delete("a", 0).await, Err(Error::FindDashboard { .. })));
    assert!(matches!(all.delete("a", 7).await, Err(Error::SaveDashboard { .. })));
    all.delete("a", 1).await.unwrap();
    assert!(matches!(all.read("a").await, Err(Error::FindDashboard { .. })));
    assert!(matches!(all.delete("a", 1).await, Err(Error::FindDashboard { .. })));
    assert!(all.list().await.unwrap().dashboards.is_empty());
    assert!(matches!(all.save("a", change(1, "old")).await, Err(Error::SaveDashboard { .. })));
    assert_eq!(all.save("a", change(0, "new")).await.unwrap().version, 3);
}

#[tokio::test]
async fn of_editors_at_the_same_time_one_saves() {
    let (_folder, all) = dashboards();
    all.save("a", change(0, "one")).await.unwrap();
    let titles: Vec<String> = (0..8).map(|i| format!("editor {i}")).collect();
    let saves = join_all(titles.iter().map(|title| all.save("a", change(1, title)))).await;
    let saved: Vec<&DashboardEntry> = saves.iter().filter_map(|save| save.as_ref().ok()).collect();
    assert_eq!(saved.len(), 1, "{saves:?}");
    assert!(saves.iter().filter_map(|save| save.as_ref().err()).all(|e| matches!(e, Error::SaveDashboard { .. })));
    assert_eq!(all.read("a").await.unwrap().dashboard.title, saved[0].title);
}

#[tokio::test]
async fn old_versions_are_removed() {
    let (folder, all) = dashboards();
    for version in 0..KEPT + 5 {
        all.save("a", change(version, "t")).await.unwrap();
    }
    let files = std::fs::read_dir(folder.path().join("dashboards/a")).unwrap().count();
    assert_eq!(files as u64, KEPT);
    assert_eq!(all.read("a").await.unwrap().version, KEPT + 5);
}

#[tokio::test]
async fn what_is_not_understood_is_listed_and_can_be_replaced() {
    let (folder, all) = dashboards();
    all.save("a", change(0, "one")).await.unwrap();
    std::fs::write(folder.path().join("dashboards/a/00000002.json"), "{\"dashboard\": {\"later\": 1}}").unwrap();
    std::fs::create_dir_all(folder.path().join("dashboards/No Name")).unwrap();
    std::fs::write(folder.path().join("dashboards/No Name/00000001.json"), "x").unwrap();
    assert!(matches!(all.read("a").await, Err(Error::UnderstandDashboard { version: 2, .. })));
    let entry = DashboardEntry { name: "a".into(), version: 2, title: "a".into() };
    assert_eq!(all.list().await.unwrap().dashboards, [entry]);
    all.delete("a", 2).await.unwrap();
    assert!(all.list().await.unwrap().dashboards.is_empty());
}
