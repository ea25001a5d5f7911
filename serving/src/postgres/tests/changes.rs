//! COPY of changes by the extended protocol: rows without an end, and what ends them.

use futures::StreamExt;

use super::*;

/// The first column of each line, up to the first frontier.
async fn first_step(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut copied = std::pin::pin!(client.copy_out(&format!("COPY ({query}) TO STDOUT")).await?);
    let mut kinds: Vec<String> = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "frontier") {
        let bytes = copied.next().await.expect("a line")?;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        kinds.extend(text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()));
    }
    Ok(kinds)
}

#[tokio::test]
async fn a_copy_of_changes_begins_with_all_rows() {
    let server = Server::start().await;
    let client = server.client().await;
    let groups = client.query("SELECT * FROM device_minutes", &[]).await.unwrap().len();
    let kinds = first_step(&client, "SELECT * FROM changes('device_minutes')").await.unwrap();
    assert_eq!((kinds[0].as_str(), kinds.len()), ("reset", groups + 2));
    assert!(kinds[1..=groups].iter().all(|kind| kind == "upsert"), "{kinds:?}");
}

#[tokio::test]
async fn queries_that_only_look_like_changes_are_queries() {
    let server = Server::start().await;
    let client = server.client().await;
    let check = async |query: &str, code: &str| {
        let error = first_step(&client, query).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some(code), "{query}: {error}");
    };
    check("SELECT * FROM changes('device_minutes') LIMIT 1", "0A000").await;
    check("SELECT * FROM changes", "42P01").await;
    check("SELECT nothing FROM changes('device_minutes')", "42703").await;
    assert_eq!(client.query("SELECT 'changes'", &[]).await.unwrap().len(), 1);
}
