//! Values that could be far larger than what they are made of are refused before they are made.

use super::{ask, check_all};

#[tokio::test]
async fn long_values_are_refused_before_they_are_made() {
    check_all(&[
        ("length(repeat(s, 1000))", Ok("4000")),
        ("length(repeat(s, big))", Err("repeat() would make a value of")),
        ("repeat(s, -5)", Ok("")),
        ("lpad(s, -1, '0')", Ok("")),
        ("rpad(s, -big)", Ok("")),
        ("lpad(s, 6, '0')", Ok("00text")),
        ("lpad(s, 2000000000)", Err("lpad() would make")),
        ("cardinality(array_repeat(1, 2000000000))", Err("array_repeat() would make")),
        ("cardinality(array_resize([1], 2000000000, 0))", Err("array_resize() would make")),
        ("array_to_string(array_repeat(1, 1000000), repeat('x', 1000))", Err("array_to_string() would make")),
        ("array_to_string([1, NULL, 3], '-', '*')", Ok("1-*-3")),
        ("array_to_string([[1], [2, 3]], '-')", Ok("1-2-3")),
        ("cardinality(range(0, big))", Err("range() would make")),
        ("cardinality(generate_series(-big, big))", Err("generate_series() would make")),
        ("cardinality(range(0, 10, 3))", Ok("4")),
        ("replace(repeat('a', 10000), 'a', repeat('b', 10000))", Err("replace() would make")),
        ("length(replace(repeat('a', 10000), 'x', repeat('b', 10000)))", Ok("10000")),
        ("regexp_replace(repeat('a', 10000), 'a', repeat('b', 10000), 'g')", Err("regexp_replace() would make")),
        ("length(regexp_replace(repeat('a', 10000), 'a', repeat('b', 10000)))", Ok("19999")),
        ("array_repeat(array_repeat(1, 4000000), 60000)", Err("array_repeat() would make")),
        ("array_resize([repeat(s, 1000)], 4000000, repeat(s, 1000))", Err("array_resize() would make")),
        ("regexp_replace(repeat('a', 1000000), '^(.*)$', repeat('\\1', 100000))", Err("regexp_replace() would make")),
        ("length(regexp_replace(repeat('a', 7000000), 'x', 'ten letters', 'g'))", Ok("7000000")),
        ("length(replace(repeat('a', 7000000), 'x', 'ten letters'))", Ok("7000000")),
        ("length(lpad(s, 20000000, 'x'))", Ok("20000000")),
        ("lpad(s, 30000000, '€')", Err("lpad() would make")),
    ])
    .await;
}

#[tokio::test]
async fn limits_know_all_types_of_arguments() {
    let berlin = |time: &str| format!("TIMESTAMP '{time}' AT TIME ZONE 'Europe/Berlin'");
    let days = format!("range({}, {}, INTERVAL '1 day')", berlin("2021-03-27"), berlin("2021-03-30"));
    let days = format!("cardinality({days})");
    check_all(&[
        ("repeat(arrow_cast(s, 'Utf8View'), 3)", Ok("texttexttext")),
        ("repeat(arrow_cast(s, 'LargeUtf8'), 3)", Ok("texttexttext")),
        ("repeat(s, tiny - 125)", Ok("texttext")),
        ("lpad(s, 6, NULL)", Ok("NULL")),
        ("regexp_replace(s, 't', 'x', NULL)", Ok("NULL")),
        ("regexp_replace(s, NULL, 'x', 'g')", Ok("NULL")),
        ("cardinality(array_repeat(named_struct('a', s, 'b', [1, 2]), 3))", Ok("3")),
        ("cardinality(array_repeat(arrow_cast([1, 2], 'FixedSizeList(2, Int64)'), 3))", Ok("6")),
        ("cardinality(array_resize([[s]], 3, [s, s]))", Ok("5")),
        ("cardinality(array_resize([s], 3))", Ok("3")),
        ("cardinality(range(tiny))", Ok("127")),
        ("cardinality(generate_series('2021-01-01', '2021-01-03', INTERVAL '1 day'))", Ok("3")),
        (&days, Ok("3")),
    ])
    .await;
}

#[tokio::test]
async fn lists_have_lengths_in_every_dimension() {
    let empty = "arrow_cast([], 'List(List(Int64))')";
    let cases = [
        ("array_length([[1, 2], [3]], 2)".to_owned(), "2"),
        ("array_length([[1, 2], [3]], int - 2147483645)".to_owned(), "2"),
        ("array_length([[1, 2], [3]])".to_owned(), "2"),
        ("array_length([1, 2], 2)".to_owned(), "NULL"),
        ("array_length([1, 2], 0)".to_owned(), "NULL"),
        ("array_length([1, 2], -big)".to_owned(), "NULL"),
        ("array_length([[[1]]], 3)".to_owned(), "1"),
        (format!("array_length({empty}, 2)"), "NULL"),
        (format!("array_length({empty}, 1)"), "0"),
        (format!("array_length(make_array({empty}), 3)"), "NULL"),
    ];
    let cases: Vec<_> = cases.iter().map(|(expression, expect)| (expression.as_str(), Ok(*expect))).collect();
    check_all(&cases).await;
}

#[tokio::test]
async fn a_series_comes_to_an_end() {
    let (day, time) = ("DATE '2021-01-30', DATE '2020-01-01'", "TIMESTAMP '2021-01-30', TIMESTAMP '2020-01-01'");
    for bounds in [day, time] {
        for step in ["1 month -29 days", "1 month -28 days", "1 day -24 hours", "-1 month 1 second"] {
            for function in ["range", "generate_series"] {
                let series = format!("cardinality({function}({bounds}, INTERVAL '{step}'))");
                check_all(&[(&series, Err("one sign"))]).await;
            }
        }
    }
    check_all(&[
        ("cardinality(range(DATE '2021-01-30', DATE '2021-03-30', INTERVAL '1 month'))", Ok("2")),
        ("cardinality(range(DATE '2021-03-30', DATE '2021-01-30', INTERVAL '-1 month -1 day'))", Ok("1")),
        ("cardinality(range(TIMESTAMP '2021-01-01', TIMESTAMP '2021-01-02', INTERVAL '1 hour'))", Ok("24")),
        ("cardinality(range(DATE '0001-01-01', day, INTERVAL '1 day'))", Ok("3652058")),
        ("cardinality(range(TIMESTAMP '2021-01-01', ts, INTERVAL '1 second'))", Err("range() would make")),
    ])
    .await;
}

#[tokio::test]
async fn scalars_count_where_the_engine_writes_them_out() {
    let rows = |count: usize| format!("FROM (VALUES {}) AS t(n)", vec!["(0)"; count].join(", "));
    for call in ["repeat(repeat('x', 3000000), n)", "array_repeat(array_repeat(1, 400000), n)"] {
        let few = format!("SELECT count({call}) {}", rows(2));
        assert_eq!(ask(&few).await.as_deref(), Ok("2"), "{call}");
        let many = ask(&format!("SELECT count({call}) {}", rows(200))).await;
        assert!(many.as_ref().is_err_and(|error| error.contains("for 200 rows at a time")), "{call}: {many:?}");
    }
}
