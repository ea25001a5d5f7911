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
async fn values_of_a_bit_count_as_the_text_that_they_become() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let server = Server::configured(world, |config| config.query_memory = 32 << 20).await;
    let objects = |count: usize, rows: usize| {
        let name = "x".repeat(900);
        format!("SELECT array_repeat(named_struct('{name}', value > 0), {count}) AS a FROM generate_series(1, {rows})")
    };
    // One row becomes 0.9 MB, all of them 36 MB.
    let answer = server.sql(&objects(1000, 40)).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap().len() > 36_000_000);
    // One row becomes 90 MB.
    let (status, code, _) = error(server.sql(&objects(100_000, 1)).await).await;
    assert_eq!((status, code.as_str()), (507, "memory_limit"));
}

#[tokio::test]
async fn a_text_of_too_many_words_is_refused() {
    let server = Server::start().await;
    let (status, code, _) = error(server.sql(&format!("SELECT 1 IN ({}1)", "1,".repeat(1_900_000))).await).await;
    assert_eq!((status, code.as_str()), (400, "too_large"));
}
