//! Large answers and large requests, and the memory that they count in.

use super::*;

#[tokio::test]
async fn the_bytes_of_an_encoded_answer_are_memory_of_the_query() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let server = Server::configured(world, |config| config.query_memory = 128 << 20).await;
    // Each control character becomes six bytes in JSON.
    let answer = server.sql("SELECT repeat(chr(c), 20000000) AS w FROM (VALUES (120)) t(c)").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap().len() > 20_000_000);
    let (status, code, _) =
        error(server.sql("SELECT repeat(chr(c), 20000000) AS w FROM (VALUES (1)) t(c)").await).await;
    assert_eq!((status, code.as_str()), (507, "memory_limit"));
}

#[tokio::test]
async fn a_text_of_too_many_words_is_refused() {
    let server = Server::start().await;
    let (status, code, _) = error(server.sql(&format!("SELECT 1 IN ({}1)", "1,".repeat(1_900_000))).await).await;
    assert_eq!((status, code.as_str()), (400, "too_large"));
}
