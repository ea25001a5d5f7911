//! Conditions protect what could fail, however rows are cut into batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;

use crate::engine::session;

/// Checks queries over a table `t` with rows that only a condition keeps from an error, in batches of several sizes.
#[track_caller]
fn check_guarded(cases: &[(&str, &str)]) {
    let rows = 400_usize;
    let a: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let b: ArrayRef = Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 7 != 6).then_some(i % 4))));
    let s = (0..rows).map(|i| if i % 3 == 0 { format!("{i}") } else { format!("x{i}") });
    let s: ArrayRef = Arc::new(StringArray::from_iter_values(s));
    let batch = RecordBatch::try_from_iter([("a", a), ("b", b), ("s", s)]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (query, expect) in cases {
        for step in [1, 3, 50, 400] {
            let pieces = (0..rows).step_by(step).map(|at| batch.slice(at, step.min(rows - at)));
            let table = MemTable::try_new(batch.schema(), vec![pieces.collect()]).unwrap();
            let found = runtime.block_on(async {
                let session = session::context(session::runtime(None, None, None).unwrap(), 1);
                session.register_table("t", Arc::new(table)).unwrap();
                let answer = async { session.sql(query).await?.collect().await };
                let batches = answer.await.map_err(|error| error.strip_backtrace())?;
                let column = arrow::compute::cast(batches[0].column(0), &DataType::Utf8).unwrap();
                Ok::<_, String>(ScalarValue::try_from_array(&column, 0).unwrap().to_string())
            });
            assert_eq!(found.as_deref(), Ok(*expect), "{query} in batches of {step}");
        }
    }
}

#[test]
fn conditions_protect_what_could_fail() {
    check_guarded(&[
        ("SELECT count(*) FROM t WHERE b <> 0 AND a / b > 100", "128"),
        ("SELECT count(*) FROM t WHERE a / b > 100 AND b <> 0", "128"),
        ("SELECT count(*) FILTER (WHERE b <> 0 AND a / b > 100) FROM t", "128"),
        ("SELECT sum(a / b) FILTER (WHERE b <> 0) FROM t", "31351"),
        (
            "SELECT sum(CAST(s AS INT)) FILTER (WHERE s NOT LIKE 'x%' AND b <> 0 AND CAST(s AS INT) / b > 100) FROM t",
            "12510",
        ),
        ("SELECT count(*) FROM t WHERE b = 0 OR a / b > 100", "214"),
        (
            "SELECT count(*) FROM (SELECT * FROM t WHERE s NOT LIKE 'x%') AS u WHERE CAST(s AS INT) > 200 AND CAST(s AS INT) < 300",
            "33",
        ),
        ("SELECT count(*) FROM t WHERE CASE WHEN b <> 0 THEN a / b > 100 ELSE false END", "128"),
        ("SELECT count(CASE WHEN b = 0 THEN false WHEN a / b > 100 THEN true END) FROM t", "214"),
        ("SELECT count(*) FROM t WHERE s NOT LIKE 'x%' AND CAST(s AS INT) > 200", "67"),
        (
            "SELECT count(*) FROM t WHERE CAST(s AS INT) > 200 AND CAST(s AS INT) / b > 100 AND s NOT LIKE 'x%' AND b > 0",
            "37",
        ),
        ("SELECT count(*) FROM (SELECT * FROM t WHERE b <> 0) AS u WHERE a / b > 100", "128"),
        ("SELECT count(*) FROM t GROUP BY true HAVING count(*) > 1 AND sum(a) / (count(*) - 1) > 0", "400"),
        ("SELECT count(*) FROM t WHERE b <> 0 AND a / b > 100 AND a IN (SELECT a FROM t WHERE a > 0)", "128"),
        (
            "SELECT count(*) FROM t AS l WHERE b <> 0 AND a / b > 100 AND EXISTS (SELECT 1 FROM t AS r WHERE r.a = l.a \
             AND r.b <> 0 AND 7 / r.b > 2)",
            "107",
        ),
    ]);
}
