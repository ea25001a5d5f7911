//! Arbitrary bytes: every message becomes one row or one reject, the same alone and among other messages.

use arrow::array::{Array, AsArray};
use proptest::prelude::*;

use super::{messages, show, stream};
use crate::decode::Decoder;

/// Texts similar to JSON objects for the tested columns.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[-+.eE0-9]{1,50}",
        "\"[-+.eE0-9]{0,60}\"",
        "\"[-+:.TZ 0-9é]{0,40}\"",
        "\"(\\\\(u[0-9a-fD]{0,4}|.)|.){0,8}\"",
        "\"[0-9]{1,6}-[0-9]{2}-[0-9]{2}[T ]?[-+:.Z0-9]{0,20}\"",
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("[1,\"2\",null]".to_owned()),
        Just("{\"x\":1.5,\"y\":[]}".to_owned()),
        "[\\[\\]{}\",:a1 ]{0,12}",
    ];
    let pair = ("[a-i]", value).prop_map(|(key, value)| format!("\"{key}\":{value}"));
    let object = proptest::collection::vec(pair, 0..5).prop_map(|pairs| format!("{{{}}}", pairs.join(",")));
    prop_oneof![
        4 => object.clone().prop_map(String::into_bytes),
        1 => (object.clone(), object).prop_map(|(a, b)| (a + &b).into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "[\\[\\]{}\",:a1 \\\\]{0,20}".prop_map(String::into_bytes),
    ]
}

const MANY: &str = "a INT, b BIGINT UNSIGNED, c DOUBLE, d DECIMAL(20,4), e STRING, f TIMESTAMP, g DATE, \
                    h BYTEA, i STRUCT<x DECIMAL(38,10), y INT[]>";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_bytes_arrive(payloads in proptest::collection::vec(almost_json(), 0..60)) {
        let together = Decoder::new(&stream(MANY)).unwrap();
        let all = messages(payloads.iter().map(Vec::as_slice));
        let decoded = together.decode(&all).unwrap();
        prop_assert_eq!(decoded.rows.num_rows(), payloads.len());
        let reasons = decoded.rows.column_by_name("_reject").unwrap();
        prop_assert_eq!(reasons.len() - reasons.null_count(), decoded.rejects);

        let kept = decoded.rows.column_by_name("_payload").unwrap().as_binary::<i32>();
        let shown = show(&decoded);
        for (row, payload) in payloads.iter().enumerate() {
            prop_assert_eq!(kept.value(row), payload.as_slice());
            let alone = messages([payload.as_slice()]);
            let fresh = Decoder::new(&stream(MANY)).unwrap();
            prop_assert_eq!(&shown[row], &show(&fresh.decode(&alone).unwrap())[0]);
        }
    }
}
