//! Every scalar function that a view may call, with hostile arguments: no panic, no hang, no endless value.
//!
//! Each function is called with every combination of a few types that its signature accepts, and with every
//! combination of hostile values of these types, as columns and as constants. An error is a right answer.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Volatility};

use crate::engine::session;

/// The longest time for one combination of types.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest value that one call may make.
const LARGEST: usize = 300 << 20;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn hostile(data_type: &DataType) -> Vec<ScalarValue> {
    use ScalarValue as V;
    let mut values: Vec<ScalarValue> = match data_type {
        DataType::Int64 => [i64::MIN, -1, 0, 1, 40, 1 << 32, i64::MAX].map(|v| V::Int64(Some(v))).into(),
        DataType::Float64 => {
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.5, 1e308, -1e19].map(|v| V::Float64(Some(v))).into()
        }
        DataType::Utf8 => [
            "",
            "a",
            "ä€𝄞",
            "(",
            "[a-",
            "%Q",
            "\\",
            "year",
            "hex",
            "base64",
            "é,a",
            "2026-01-01",
            "{\"a\":1}",
            "9999-12-31T23:59:59.999999",
            "99999999999999999999",
            "Int8",
            "(a*)*b",
            "\u{0}",
        ]
        .map(V::from)
        .into(),
        DataType::Timestamp(_, zone) => [-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999]
            .map(|v| V::TimestampMicrosecond(Some(v), zone.clone()))
            .into(),
        DataType::Date32 => [-719_162, 0, 2_932_896].map(|v| V::Date32(Some(v))).into(),
        DataType::Decimal128(p, s) => {
            [1 - 10_i128.pow(38), 0, 10_i128.pow(38) - 1].map(|v| V::Decimal128(Some(v), *p, *s)).into()
        }
        DataType::Boolean => vec![V::Boolean(Some(true))],
        DataType::Binary => vec![V::Binary(Some(vec![])), V::Binary(Some(vec![0xff, 0]))],
        DataType::Interval(_) => [(0, 0, 0), (0, 0, 1), (-1, 1, -1), (i32::MAX, i32::MAX, i64::MAX)]
            .map(|(m, d, n)| V::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(m, d, n))))
            .into(),
        DataType::List(item) => {
            let items = hostile(item.data_type());
            vec![
                V::List(V::new_list_nullable(&[], item.data_type())),
                V::List(V::new_list_nullable(&items, item.data_type())),
            ]
        }
        other => panic!("no values of {other}"),
    };
    values.push(ScalarValue::try_new_null(data_type).unwrap());
    values
}

fn types() -> Vec<DataType> {
    vec![
        DataType::Int64,
        DataType::Utf8,
        DataType::Float64,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        list(DataType::Int64),
        DataType::Date32,
        DataType::Decimal128(38, 0),
        DataType::Boolean,
        DataType::Binary,
        DataType::Interval(IntervalUnit::MonthDayNano),
        list(DataType::Utf8),
        DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
    ]
}

/// All combinations of `count` elements of `pool`.
fn product<T: Clone>(pools: &[Vec<T>]) -> Vec<Vec<T>> {
    pools.iter().fold(vec![vec![]], |found, pool| {
        found.iter().flat_map(|head| pool.iter().map(move |item| [head.clone(), vec![item.clone()]].concat())).collect()
    })
}

/// Combinations of argument types, as the function's signature coerces them.
fn signatures(function: &ScalarUDF) -> Vec<Vec<DataType>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (arity, kinds) in [(0, 0), (1, 12), (2, 12), (3, 6), (4, 2)] {
        for given in product(&vec![types()[..kinds].to_vec(); arity]) {
            let fields: Vec<FieldRef> =
                given.iter().map(|data_type| Arc::new(Field::new("x", data_type.clone(), true))).collect();
            let Ok(Ok(coerced)) = catch_unwind(AssertUnwindSafe(|| fields_with_udf(&fields, function))) else {
                continue;
            };
            let coerced: Vec<DataType> = coerced.iter().map(|field| field.data_type().clone()).collect();
            if seen.insert(coerced) {
                found.push(given);
            }
        }
    }
    found
}

/// Calls the function; returns what is wrong.
fn call(function: &ScalarUDF, values: &[ScalarValue], constant: bool) -> Result<(), String> {
    let fields: Vec<FieldRef> = values.iter().map(|value| Arc::new(Field::new("x", value.data_type(), true))).collect();
    let described = || format!("{}({values:?}), constant: {constant}", function.name());
    let work = || -> datafusion::common::Result<usize> {
        let coerced = fields_with_udf(&fields, function)?;
        let values: Vec<ScalarValue> = values
            .iter()
            .zip(&coerced)
            .map(|(value, field)| value.cast_to(field.data_type()))
            .collect::<datafusion::common::Result<_>>()?;
        let known: Vec<Option<&ScalarValue>> = values.iter().map(|value| constant.then_some(value)).collect();
        let return_field =
            function.return_field_from_args(ReturnFieldArgs { arg_fields: &coerced, scalar_arguments: &known })?;
        let args = values.iter().map(|value| {
            Ok(if constant { ColumnarValue::Scalar(value.clone()) } else { ColumnarValue::Array(value.to_array()?) })
        });
        let args = ScalarFunctionArgs {
            args: args.collect::<datafusion::common::Result<_>>()?,
            arg_fields: coerced,
            number_rows: 1,
            return_field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        Ok(function.invoke_with_args(args)?.into_array(1)?.get_array_memory_size())
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(size)) if size > LARGEST => Err(format!("{size} bytes: {}", described())),
        Ok(_) => Ok(()),
        Err(_) => Err(format!("panic: {}", described())),
    }
}

/// Calls the function with all values of one combination of types; returns what is wrong, by kind of constant.
fn call_all(function: &ScalarUDF, types: &[DataType]) -> Vec<String> {
    let mut pools: Vec<Vec<ScalarValue>> = types.iter().map(hostile).collect();
    if pools.len() > 2 {
        // The first and last values are the extremes and NULL.
        for pool in &mut pools {
            let step = pool.len().div_ceil(5);
            *pool = pool.iter().rev().step_by(step).cloned().chain(pool.first().cloned()).collect();
        }
    }
    let mut wrong = Vec::new();
    for constant in [false, true] {
        for values in product(&pools) {
            if let Err(what) = call(function, &values, constant) {
                wrong.push(what);
                break;
            }
        }
    }
    wrong
}

#[test]
#[expect(clippy::print_stdout, reason = "a process that runs out of memory ends without a word about the function")]
fn no_function_panics_or_hangs() {
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let mut functions: Vec<Arc<ScalarUDF>> = session.state().scalar_functions().values().cloned().collect();
    functions.sort_by(|a, b| a.name().cmp(b.name()));
    functions.dedup_by(|a, b| a.name() == b.name());
    functions.retain(|function| function.signature().volatility == Volatility::Immutable);
    assert!(functions.len() > 150, "only {} functions", functions.len());
    let mut wrong = Vec::new();
    for function in functions {
        println!("{}", function.name());
        for types in signatures(&function) {
            let (sender, done) = mpsc::channel();
            let (of_thread, types_of_thread) = (Arc::clone(&function), types.clone());
            std::thread::spawn(move || sender.send(call_all(&of_thread, &types_of_thread)));
            match done.recv_timeout(PATIENCE) {
                Ok(found) => wrong.extend(found),
                Err(_) => wrong.push(format!("hangs: {}({types:?})", function.name())),
            }
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
