//! Converts conditions on groups from a query's expressions to the wire format and back.
//!
//! Invariant: a filter drops no group that its source expression would keep. An expression without such a filter is
//! not translated; the reader applies every filter again anyway.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator, lit};
use datafusion::prelude::ident;

use crate::realtime::protocol::{GroupFilter, GroupTest};

/// The most values in a filter. Only the reader applies a longer list, because the request would cost more than it
/// saves.
const VALUES: usize = 1024;

impl GroupFilter {
    /// Translates `condition` on the columns of `groups` into filters that together are equivalent. `None` if there
    /// are none.
    pub fn translate(condition: &Expr, groups: &Schema) -> Option<Vec<GroupFilter>> {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => {
                    let mut both = Self::translate(left, groups)?;
                    both.extend(Self::translate(right, groups)?);
                    Some(both)
                }
                // DataFusion plans a short IN list as alternatives.
                Operator::Or => {
                    let mut values = Vec::new();
                    let column = alternatives(condition, &mut values)?;
                    Some(vec![Self::new(&column, GroupTest::In, values, groups)?])
                }
                op => {
                    let (column, value, op) = match (&**left, &**right) {
                        (Expr::Column(c), Expr::Literal(value, _)) => (c, value, *op),
                        (Expr::Literal(value, _), Expr::Column(c)) => (c, value, op.swap()?),
                        _ => return None,
                    };
                    let test = match op {
                        Operator::Eq => GroupTest::In,
                        Operator::Lt => GroupTest::Less,
                        Operator::LtEq => GroupTest::LessOrEqual,
                        Operator::Gt => GroupTest::Greater,
                        Operator::GtEq => GroupTest::GreaterOrEqual,
                        _ => return None,
                    };
                    let values = vec![value.clone()];
                    Some(vec![Self::new(&column.name, test, values, groups)?])
                }
            },
            Expr::InList(InList { expr, list, negated: false }) => {
                let values = list.iter().map(literal).collect::<Option<Vec<_>>>()?;
                let column = column(expr)?;
                Some(vec![Self::new(column, GroupTest::In, values, groups)?])
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let column = column(expr)?;
                let bound = |test, bound| Self::new(column, test, vec![literal(bound)?], groups);
                Some(vec![bound(GroupTest::GreaterOrEqual, low)?, bound(GroupTest::LessOrEqual, high)?])
            }
            _ => None,
        }
    }

    fn new(column: &str, test: GroupTest, values: Vec<ScalarValue>, groups: &Schema) -> Option<GroupFilter> {
        let field = groups.field_with_name(column).ok()?;
        let fit = |value: &ScalarValue| !value.is_null() && value.data_type() == *field.data_type();
        if values.is_empty() || values.len() > VALUES || !values.iter().all(fit) {
            return None;
        }
        let values = ScalarValue::iter_to_array(values).ok()?;
        Some(GroupFilter { column: column.to_owned(), test, values: encode(&values).ok()? })
    }

    /// Returns the condition on rows that have the columns of `groups`.
    ///
    /// Errors: the reason why the received filter is not a condition on these columns.
    pub fn condition(&self, groups: &Schema) -> Result<Expr, String> {
        let name = &self.column;
        let field = groups.field_with_name(name).map_err(|_| format!("there is no group `{name}`"))?;
        let values = decode(&self.values).map_err(|e| format!("values of `{name}`: {e}"))?;
        if values.data_type() != field.data_type() {
            return Err(format!("values of `{name}` have type {}, not {}", values.data_type(), field.data_type()));
        }
        let values = (0..values.len())
            .map(|i| ScalarValue::try_from_array(&values, i).map(lit))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("values of `{name}`: {e}"))?;
        let column = ident(name);
        if self.test == GroupTest::In {
            return Ok(column.in_list(values, false));
        }
        let [value] = <[Expr; 1]>::try_from(values)
            .map_err(|values| format!("a bound of `{name}` has {} values", values.len()))?;
        Ok(match self.test {
            GroupTest::Less => column.lt(value),
            GroupTest::LessOrEqual => column.lt_eq(value),
            GroupTest::Greater => column.gt(value),
            GroupTest::GreaterOrEqual => column.gt_eq(value),
            GroupTest::In => column.eq(value),
        })
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    }
}

/// Returns the one column that `a = 1 OR a = 2 OR …` compares, and collects its values.
fn alternatives(expr: &Expr, values: &mut Vec<ScalarValue>) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    match op {
        Operator::Or => {
            let one = alternatives(left, values)?;
            let other = alternatives(right, values)?;
            (one == other).then_some(one)
        }
        Operator::Eq => {
            let (name, value) = match (column(left), column(right)) {
                (Some(name), None) => (name, literal(right)?),
                (None, Some(name)) => (name, literal(left)?),
                _ => return None,
            };
            values.push(value);
            Some(name.to_owned())
        }
        _ => None,
    }
}

fn encode(values: &ArrayRef) -> Result<String, ArrowError> {
    let field = Field::new("value", values.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(values)])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    Ok(STANDARD.encode(writer.into_inner()?))
}

fn decode(text: &str) -> Result<ArrayRef, ArrowError> {
    let malformed = |reason: String| ArrowError::ParseError(reason);
    let bytes = STANDARD.decode(text).map_err(|e| malformed(e.to_string()))?;
    let mut batches = StreamReader::try_new(bytes.as_slice(), None)?;
    let batch = batches.next().ok_or_else(|| malformed("there is no batch".into()))??;
    match (batch.columns(), batch.num_rows()) {
        ([values], 1..) => Ok(Arc::clone(values)),
        (columns, rows) => Err(malformed(format!("{} columns and {rows} rows instead of one column", columns.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use datafusion::prelude::col;

    fn groups() -> Schema {
        Schema::new(vec![Field::new("g0", DataType::Utf8, true), Field::new("g1", DataType::Int64, true)])
    }

    /// Checks a condition translated to filters and back, as text.
    #[track_caller]
    fn check(condition: Expr, expect: Option<&str>) {
        let groups = groups();
        let found = GroupFilter::translate(&condition, &groups).map(|filters| {
            let back = filters.iter().map(|filter| {
                let wire = serde_json::to_string(filter).unwrap();
                let filter: GroupFilter = serde_json::from_str(&wire).unwrap();
                filter.condition(&groups).unwrap().to_string()
            });
            back.collect::<Vec<_>>().join(" and ")
        });
        assert_eq!(found.as_deref(), expect, "{condition}");
    }

    #[test]
    fn comparisons_lists_and_ranges_of_groups_cross_the_wire() {
        check(col("g0").eq(lit("a")), Some(r#"g0 IN ([Utf8("a")])"#));
        check(lit("a").eq(col("g0")), Some(r#"g0 IN ([Utf8("a")])"#));
        check(col("g1").lt(lit(7_i64)), Some("g1 < Int64(7)"));
        check(lit(7_i64).lt(col("g1")), Some("g1 > Int64(7)"));
        check(lit(7_i64).gt_eq(col("g1")), Some("g1 <= Int64(7)"));
        check(col("g1").between(lit(3_i64), lit(7_i64)), Some("g1 >= Int64(3) and g1 <= Int64(7)"));
        check(col("g1").in_list(vec![lit(3_i64), lit(7_i64)], false), Some("g1 IN ([Int64(3), Int64(7)])"));
        let either = col("g1").eq(lit(3_i64)).or(lit(7_i64).eq(col("g1")));
        check(either, Some("g1 IN ([Int64(3), Int64(7)])"));
        let both = col("g1").gt(lit(3_i64)).and(col("g0").lt_eq(lit("b")));
        check(both, Some(r#"g1 > Int64(3) and g0 <= Utf8("b")"#));
    }

    #[test]
    fn what_could_drop_too_much_is_left_to_the_reader() {
        check(col("g1").eq(lit(7_i32)), None);
        check(col("a0").eq(lit(7_i64)), None);
        check(col("g1").not_eq(lit(7_i64)), None);
        check(col("g1").eq(lit(ScalarValue::Int64(None))), None);
        check(col("g1").in_list(vec![lit(7_i64)], true), None);
        check(col("g1").in_list(Vec::new(), false), None);
        check(col("g1").not_between(lit(3_i64), lit(7_i64)), None);
        check(col("g1").eq(lit(3_i64)).or(col("g0").eq(lit("a"))), None);
        check(col("g1").eq(lit(3_i64)).and(col("g1").is_null()), None);
        let many = (0..=VALUES as i64).map(lit).collect();
        check(col("g1").in_list(many, false), None);
    }

    #[test]
    fn malformed_filters_are_refused_with_a_reason() {
        let groups = groups();
        let good = GroupFilter::translate(&col("g1").lt(lit(7_i64)), &groups).unwrap();
        let check = |change: &dyn Fn(&mut GroupFilter), expect: &str| {
            let mut filter = good[0].clone();
            change(&mut filter);
            let reason = filter.condition(&groups).unwrap_err();
            assert!(reason.contains(expect), "{reason}");
        };
        check(&|f| f.column = "g9".into(), "no group `g9`");
        check(&|f| f.column = "g0".into(), "type Int64, not Utf8");
        check(&|f| f.values = "*".into(), "values of `g1`");
        check(&|f| f.values = STANDARD.encode("text"), "values of `g1`");
        check(&|f| f.values.truncate(40), "values of `g1`");
        let two = col("g1").in_list(vec![lit(3_i64), lit(7_i64)], false);
        let two = GroupFilter::translate(&two, &groups).unwrap();
        check(&|f| f.values = two[0].values.clone(), "has 2 values");
    }
}
