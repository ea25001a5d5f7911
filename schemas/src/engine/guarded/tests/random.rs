//! Random expressions, evaluated row by row from the left to the right, and by the engine in batches of several sizes.
//!
//! Invariant: where no row is an error, the engine has no error, and the same values.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Row, STEPS, ask, rows, session_of};

/// An expression whose value is a number.
#[derive(Debug, Clone)]
enum Number {
    Column(&'static str),
    Constant(i64),
    Quotient(Box<Number>, Box<Number>),
    /// The number that `s` is, or an error.
    OfText,
    Case(Box<Condition>, Box<Number>, Box<Number>),
    Coalesce(Box<Number>, Box<Number>),
}

#[derive(Debug, Clone)]
enum Condition {
    Compare(Number, &'static str, Number),
    /// True where `s` is a number.
    IsNumber,
    IsNull(Number),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Is(Box<Condition>, &'static str),
    Case(Box<Condition>, Box<Condition>, Box<Condition>),
    Constant(Option<bool>),
}

/// The error of a row.
#[derive(Debug)]
struct Fails;

type Evaluated<T> = Result<Option<T>, Fails>;

impl Number {
    fn sql(&self) -> String {
        match self {
            Self::Column(name) => (*name).to_owned(),
            Self::Constant(value) => value.to_string(),
            Self::Quotient(left, right) => format!("({} / {})", left.sql(), right.sql()),
            Self::OfText => "CAST(s AS BIGINT)".into(),
            Self::Case(when, then, otherwise) => {
                format!("CASE WHEN {} THEN {} ELSE {} END", when.sql(), then.sql(), otherwise.sql())
            }
            Self::Coalesce(first, second) => format!("coalesce({}, {})", first.sql(), second.sql()),
        }
    }

    /// Whether it reads the table `t`, and whether it reads `r`.
    fn reads(&self) -> (bool, bool) {
        let both = |left: &Self, right: &Self| {
            let (left, right) = (left.reads(), right.reads());
            (left.0 || right.0, left.1 || right.1)
        };
        match self {
            Self::Column(name) => (*name != "v", *name == "v"),
            Self::Quotient(left, right) | Self::Coalesce(left, right) | Self::Case(_, left, right) => both(left, right),
            Self::Constant(_) => (false, false),
            Self::OfText => (true, false),
        }
    }

    fn may_fail(&self) -> bool {
        matches!(self, Self::Quotient(..) | Self::OfText | Self::Case(..) | Self::Coalesce(..))
    }

    fn of(&self, row: &Row) -> Evaluated<i64> {
        match self {
            Self::Column("a") => Ok(Some(row.a)),
            Self::Column("b") => Ok(row.b),
            Self::Column(_) => Ok(row.v),
            Self::Constant(value) => Ok(Some(*value)),
            Self::Quotient(left, right) => match (left.of(row)?, right.of(row)?) {
                (Some(left), Some(right)) => left.checked_div(right).map(Some).ok_or(Fails),
                _ => Ok(None),
            },
            Self::OfText => row.s.parse().map(Some).map_err(|_| Fails),
            Self::Case(when, then, otherwise) => match when.of(row)? {
                Some(true) => then.of(row),
                _ => otherwise.of(row),
            },
            Self::Coalesce(first, second) => match first.of(row)? {
                Some(value) => Ok(Some(value)),
                None => second.of(row),
            },
        }
    }
}

impl Condition {
    fn sql(&self) -> String {
        match self {
            Self::Compare(left, operator, right) => format!("({} {operator} {})", left.sql(), right.sql()),
            Self::IsNumber => "s NOT LIKE 'x%'".into(),
            Self::IsNull(value) => format!("({} IS NULL)", value.sql()),
            Self::And(left, right) => format!("({} AND {})", left.sql(), right.sql()),
            Self::Or(left, right) => format!("({} OR {})", left.sql(), right.sql()),
            Self::Not(inner) => format!("(NOT {})", inner.sql()),
            Self::Is(inner, what) => format!("({} IS {what})", inner.sql()),
            Self::Case(when, then, otherwise) => {
                format!("CASE WHEN {} THEN {} ELSE {} END", when.sql(), then.sql(), otherwise.sql())
            }
            Self::Constant(Some(value)) => value.to_string(),
            Self::Constant(None) => "CAST(NULL AS BOOLEAN)".into(),
        }
    }

    fn of(&self, row: &Row) -> Evaluated<bool> {
        match self {
            Self::Compare(left, operator, right) => {
                let (Some(left), Some(right)) = (left.of(row)?, right.of(row)?) else { return Ok(None) };
                Ok(Some(match *operator {
                    "=" => left == right,
                    "<>" => left != right,
                    _ => left > right,
                }))
            }
            Self::IsNumber => Ok(Some(!row.s.starts_with('x'))),
            Self::IsNull(value) => Ok(Some(value.of(row)?.is_none())),
            Self::And(left, right) => match left.of(row)? {
                Some(false) => Ok(Some(false)),
                left => Ok(match (left, right.of(row)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }),
            },
            Self::Or(left, right) => match left.of(row)? {
                Some(true) => Ok(Some(true)),
                left => Ok(match (left, right.of(row)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }),
            },
            Self::Not(inner) => Ok(inner.of(row)?.map(|value| !value)),
            Self::Is(inner, what) => {
                let found = inner.of(row)?;
                Ok(Some(match *what {
                    "TRUE" => found == Some(true),
                    "NOT TRUE" => found != Some(true),
                    "FALSE" => found == Some(false),
                    "NOT FALSE" => found != Some(false),
                    _ => found.is_none(),
                }))
            }
            Self::Case(when, then, otherwise) => match when.of(row)? {
                Some(true) => then.of(row),
                _ => otherwise.of(row),
            },
            Self::Constant(value) => Ok(*value),
        }
    }

    /// True if a part is an equality between the tables with a side that may fail. Such sides are computed for rows
    /// without a partner too: docs/engine-faults.md has the exception.
    fn has_key_that_may_fail(&self) -> bool {
        match self {
            Self::Compare(left, "=" | "<>", right) => {
                let sides = (left.reads(), right.reads());
                let is_key = matches!(sides, ((true, false), (false, true)) | ((false, true), (true, false)));
                is_key && (left.may_fail() || right.may_fail())
            }
            Self::And(left, right) | Self::Or(left, right) => {
                left.has_key_that_may_fail() || right.has_key_that_may_fail()
            }
            Self::Not(inner) | Self::Is(inner, _) => inner.has_key_that_may_fail(),
            Self::Case(when, then, otherwise) => {
                [when, then, otherwise].iter().any(|part| part.has_key_that_may_fail())
            }
            Self::Compare(..) | Self::IsNumber | Self::IsNull(_) | Self::Constant(_) => false,
        }
    }

    fn holds(&self, row: &Row) -> Result<bool, Fails> {
        Ok(self.of(row)? == Some(true))
    }
}

fn column(names: &'static [&'static str]) -> impl Strategy<Value = Number> {
    prop::sample::select(names).prop_map(Number::Column)
}

fn number(names: &'static [&'static str]) -> impl Strategy<Value = Number> {
    prop_oneof![
        3 => column(names),
        2 => (-2_i64..200).prop_map(Number::Constant),
        2 => (column(names), column(names)).prop_map(|(l, r)| Number::Quotient(Box::new(l), Box::new(r))),
        1 => Just(Number::OfText),
    ]
}

fn compare(left: Number, operator: &'static str, right: Number) -> Condition {
    Condition::Compare(left, operator, right)
}

/// A condition that may fail, behind one that protects it.
fn protected(names: &'static [&'static str]) -> impl Strategy<Value = Condition> {
    let operators = || prop::sample::select(&["=", "<>", ">"][..]);
    let quotient = (column(names), column(names), operators(), -1_i64..120);
    let quotient = quotient.prop_map(|(left, divisor, operator, bound)| {
        let zero = |operator| compare(divisor.clone(), operator, Number::Constant(0));
        let of = Number::Quotient(Box::new(left), Box::new(divisor.clone()));
        (zero("<>"), zero("="), compare(of, operator, Number::Constant(bound)))
    });
    let text = (operators(), 0_i64..400).prop_map(|(operator, bound)| {
        let other = Condition::Not(Box::new(Condition::IsNumber));
        (Condition::IsNumber, other, compare(Number::OfText, operator, Number::Constant(bound)))
    });
    let parts = prop_oneof![2 => quotient.boxed(), 1 => text.boxed()];
    (parts, 0..4_usize).prop_map(|((ok, not_ok, fails), form)| {
        let (ok, not_ok, fails) = (Box::new(ok), Box::new(not_ok), Box::new(fails));
        match form {
            0 => Condition::And(ok, fails),
            1 => Condition::Or(not_ok, fails),
            2 => Condition::Case(ok, fails, Box::new(Condition::Constant(None))),
            _ => Condition::Case(not_ok, Box::new(Condition::Constant(Some(false))), fails),
        }
    })
}

fn condition(names: &'static [&'static str]) -> impl Strategy<Value = Condition> {
    let operators = || prop::sample::select(&["=", "<>", ">"][..]);
    let leaf = prop_oneof![
        6 => protected(names),
        1 => (number(names), operators(), number(names)).prop_map(|(l, o, r)| compare(l, o, r)),
        2 => (column(names), operators(), (0_i64..4).prop_map(Number::Constant)).prop_map(|(l, o, r)| compare(l, o, r)),
        1 => Just(Condition::IsNumber),
        1 => column(names).prop_map(Condition::IsNull),
        1 => prop::option::of(any::<bool>()).prop_map(Condition::Constant),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let inner = || inner.clone().prop_map(Box::new);
        let is = prop::sample::select(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN"][..]);
        prop_oneof![
            3 => (inner(), inner()).prop_map(|(l, r)| Condition::And(l, r)),
            3 => (inner(), inner()).prop_map(|(l, r)| Condition::Or(l, r)),
            2 => inner().prop_map(Condition::Not),
            1 => (inner(), is).prop_map(|(inner, what)| Condition::Is(inner, what)),
            1 => (inner(), inner(), inner()).prop_map(|(w, t, o)| Condition::Case(w, t, o)),
        ]
    })
}

/// A number that may fail where the condition does not hold.
fn value(names: &'static [&'static str]) -> impl Strategy<Value = Number> {
    let parts = (condition(names), number(names), number(names));
    prop_oneof![
        2 => number(names),
        1 => parts.prop_map(|(when, then, otherwise)| {
            Number::Case(Box::new(when), Box::new(then), Box::new(otherwise))
        }),
        1 => (column(names), number(names)).prop_map(|(l, r)| Number::Coalesce(Box::new(l), Box::new(r))),
    ]
}

/// The sum of the values, NULL if there are none.
fn sum(values: impl Iterator<Item = Evaluated<i64>>) -> Result<String, Fails> {
    let mut total = None;
    for value in values {
        if let Some(value) = value? {
            total = Some(total.unwrap_or(0) + value);
        }
    }
    Ok(show(total))
}

fn show<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".into(), |value| value.to_string())
}

/// The rows for which the condition holds.
fn where_holds<'a>(rows: &[&'a Row], condition: &Condition) -> Result<Vec<&'a Row>, Fails> {
    let mut kept = Vec::new();
    for row in rows {
        if condition.holds(row)? {
            kept.push(*row);
        }
    }
    Ok(kept)
}

fn count_and_sum(rows: &[&Row]) -> String {
    let total = sum(rows.iter().map(|row| Ok(Some(row.a)))).unwrap_or_default();
    format!("{} {total}", rows.len())
}

/// What is made at random.
#[derive(Debug, Clone)]
struct Case {
    c: Condition,
    d: Condition,
    /// Over the columns of two tables.
    both: Condition,
    v: Number,
}

impl Case {
    /// Queries, each with its answer, or the error of a row.
    fn queries(&self, all: &[&Row]) -> Vec<(String, Result<String, Fails>)> {
        let (c, d, both, v) = (self.c.sql(), self.d.sql(), self.both.sql(), self.v.sql());
        let filtered = |rows: &[&Row]| -> Result<String, Fails> {
            let kept = where_holds(rows, &self.c)?;
            sum(kept.iter().map(|row| self.v.of(row)))
        };
        let of_case = |row: &&Row| -> Evaluated<i64> { if self.c.holds(row)? { self.v.of(row) } else { Ok(Some(0)) } };
        let values = || all.iter().map(|row| self.c.of(row)).collect::<Result<Vec<_>, _>>();
        let joined: Vec<&Row> = all.iter().copied().filter(|row| row.g < 7).collect();
        let select = "SELECT count(*), sum(a)";
        let in_turn = || where_holds(&where_holds(all, &self.c)?, &self.d);
        vec![
            (format!("{select} FROM t WHERE {c}"), where_holds(all, &self.c).map(|rows| count_and_sum(&rows))),
            (
                format!("{select} FROM (SELECT * FROM t WHERE {c}) AS u WHERE {d}"),
                in_turn().map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("{select} FROM t WHERE a IN (SELECT a FROM t WHERE {c}) AND {d}"),
                in_turn().map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("{select} FROM (SELECT a, b, s FROM t GROUP BY a, b, s HAVING {c}) AS u"),
                where_holds(all, &self.c).map(|rows| count_and_sum(&rows)),
            ),
            (format!("SELECT sum({v}) FILTER (WHERE {c}) FROM t"), filtered(all)),
            (
                format!("SELECT g, sum({v}) FILTER (WHERE {c}) FROM t GROUP BY g ORDER BY g"),
                (0..8)
                    .map(|g| {
                        let rows: Vec<&Row> = all.iter().copied().filter(|row| row.g == g).collect();
                        filtered(&rows).map(|total| format!("{g} {total}"))
                    })
                    .collect::<Result<Vec<_>, _>>()
                    .map(|groups| groups.join("; ")),
            ),
            (format!("SELECT DISTINCT sum({v}) FILTER (WHERE {c}) OVER () FROM t"), filtered(all)),
            (format!("SELECT sum(CASE WHEN {c} THEN {v} ELSE 0 END) FROM t"), sum(all.iter().map(of_case))),
            (
                format!(
                    "SELECT x, count(*) FROM (SELECT CASE WHEN a >= 0 THEN {c} END AS x FROM t) AS u GROUP BY x \
                     ORDER BY x NULLS LAST"
                ),
                values().map(|values| {
                    let groups = [Some(false), Some(true), None].into_iter().filter_map(|key| {
                        let count = values.iter().filter(|value| **value == key).count();
                        (count > 0).then(|| format!("{} {count}", show(key)))
                    });
                    groups.collect::<Vec<_>>().join("; ")
                }),
            ),
            (
                format!("SELECT bool_or({c}), count({c}) FROM t"),
                values().map(|values| {
                    let known: Vec<bool> = values.into_iter().flatten().collect();
                    let any = (!known.is_empty()).then(|| known.contains(&true));
                    format!("{} {}", show(any), known.len())
                }),
            ),
            (
                format!("SELECT a FROM t ORDER BY {c} NULLS LAST, a LIMIT 5"),
                values().map(|values| {
                    let mut order: Vec<_> = values.into_iter().zip(all).collect();
                    order.sort_by_key(|(value, row)| (value.is_none(), *value, row.a));
                    order.iter().take(5).map(|(_, row)| row.a.to_string()).collect::<Vec<_>>().join("; ")
                }),
            ),
            (
                format!("{select} FROM t JOIN r ON g = k AND {both}"),
                where_holds(&joined, &self.both).map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("{select} FROM t JOIN r ON g = k WHERE {both}"),
                where_holds(&joined, &self.both).map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("{select} FROM t, r WHERE g = k AND {both}"),
                where_holds(&joined, &self.both).map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("{select} FROM t JOIN r ON g = k AND {c} WHERE {both}"),
                where_holds(&joined, &self.c)
                    .and_then(|rows| where_holds(&rows, &self.both))
                    .map(|rows| count_and_sum(&rows)),
            ),
            (
                format!("SELECT count(*), count(k) FROM t LEFT JOIN r ON g = k AND {both}"),
                where_holds(&joined, &self.both).map(|rows| format!("{} {}", all.len(), rows.len())),
            ),
            (
                format!("{select} FROM t LEFT JOIN r ON g = k WHERE {both}"),
                where_holds(all, &self.both).map(|rows| count_and_sum(&rows)),
            ),
        ]
    }
}

/// The number of cases, which `CONDITION_CASES` sets.
fn cases() -> u32 {
    std::env::var("CONDITION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

#[test]
fn random_conditions_fail_only_where_a_row_fails() {
    const ONE: &[&str] = &["a", "b"];
    const TWO: &[&str] = &["a", "b", "v"];
    let both = condition(TWO).prop_filter("a documented exception", |both| !both.has_key_that_may_fail());
    let case = (condition(ONE), condition(ONE), both, value(ONE));
    let case = case.prop_map(|(c, d, both, v)| Case { c, d, both, v });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sessions = STEPS.map(|step| (step, session_of(step)));
    let rows = rows();
    let all: Vec<&Row> = rows.iter().collect();
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |case| {
        for (query, expect) in case.queries(&all) {
            // An error of a row may be an error of the query.
            let Ok(expect) = expect else { continue };
            for (step, session) in &sessions {
                let found = runtime.block_on(ask(session, &query));
                prop_assert_eq!(found.as_ref(), Ok(&expect), "{} in batches of {}", query, step);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
