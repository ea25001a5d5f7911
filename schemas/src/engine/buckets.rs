//! Buckets of time: what `date_trunc` and `date_bin` cut times to, and which of them are parts of others.
//!
//! Times with a time zone whose clock is not that of UTC have no buckets here: there, an hour may belong to two days.
//!
//! Invariant: a bucket refines another only if every one of its spans lies within one span of the other.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::calendar::{Clock, DAY, HOUR, MINUTE, Stride, Unit};
use super::time_functions::{DateBin, DateTrunc};

/// Spans of time that follow each other without a gap, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    /// A whole number of microseconds.
    Micros(i64),
    Week,
    Months(i64),
    /// Decades, centuries, millennia.
    Years(i32),
}

impl Bucket {
    pub(crate) const DAY: Bucket = Bucket::Micros(DAY);

    /// The bucket of a call, and the time that the call cuts; `None` for other expressions.
    pub(crate) fn of<'e>(expr: &'e Expr, columns: &DFSchema) -> Option<(Bucket, &'e Expr)> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
        let bucket = if func.inner().is::<DateTrunc>() {
            let Expr::Literal(ScalarValue::Utf8(Some(unit)), _) = args.first()? else { return None };
            Bucket::of_unit(unit.parse().ok()?)
        } else if func.inner().is::<DateBin>() {
            let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) = args.first()? else { return None };
            let origin = match args.get(2) {
                None => 0,
                Some(Expr::Literal(ScalarValue::TimestampMicrosecond(Some(origin), _), _)) => *origin,
                Some(_) => return None,
            };
            Bucket::of_stride(DateBin::stride_of(*width).ok()?, origin)?
        } else {
            return None;
        };
        let time = args.get(1)?;
        is_of_utc(&time.get_type(columns).ok()?).then_some((bucket, time))
    }

    fn of_unit(unit: Unit) -> Self {
        match unit {
            Unit::Fixed(micros) => Bucket::Micros(micros),
            Unit::Week => Bucket::Week,
            Unit::Months(months) => Bucket::Months(i64::from(months)),
            Unit::Years(years) => Bucket::Years(years),
        }
    }

    /// `None` if the bins are shifted against those that start in 1970.
    fn of_stride(stride: Stride, origin: i64) -> Option<Self> {
        match stride {
            Stride::Micros(width) => (origin.rem_euclid(width) == 0).then_some(Bucket::Micros(width)),
            Stride::Months(months) => (origin == 0).then_some(Bucket::Months(months)),
        }
    }

    /// The spans within which a part of a time, as `date_part` names it, does not change; `None` for other parts.
    pub(crate) fn of_part(part: &str) -> Option<Self> {
        Some(match part.to_lowercase().as_str() {
            "year" => Bucket::Months(12),
            "quarter" => Bucket::Months(3),
            "month" => Bucket::Months(1),
            "week" => Bucket::Week,
            "day" | "doy" | "dow" | "isodow" => Bucket::DAY,
            "hour" => Bucket::Micros(HOUR),
            "minute" => Bucket::Micros(MINUTE),
            _ => return None,
        })
    }

    /// True if every span of `self` lies within one span of `coarse`.
    pub(crate) fn refines(self, coarse: Bucket) -> bool {
        match (self, coarse) {
            (Bucket::Micros(fine), Bucket::Micros(coarse)) => coarse % fine == 0,
            (Bucket::Micros(fine), Bucket::Week | Bucket::Months(_) | Bucket::Years(_)) => DAY % fine == 0,
            (Bucket::Months(fine), Bucket::Months(coarse)) => coarse % fine == 0,
            (Bucket::Months(fine), Bucket::Years(_)) => 12 % fine == 0,
            (fine, coarse) => fine == coarse,
        }
    }

    /// True if a span starts at `micros` since 1970.
    pub(crate) fn starts_at(self, micros: i64) -> bool {
        self.start(micros) == Some(micros)
    }

    /// The start of the span that contains `micros`; `None` if it cannot be represented.
    fn start(self, micros: i64) -> Option<i64> {
        match self {
            Bucket::Micros(width) => Stride::Micros(width).start(micros, 0),
            Bucket::Week => Unit::Week.start(micros),
            Bucket::Months(months) => Stride::Months(months).start(micros, 0),
            Bucket::Years(years) => Unit::Years(years).start(micros),
        }
    }
}

/// True for times in microseconds with the clock of UTC, also those without a time zone.
pub(crate) fn is_of_utc(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => matches!(Clock::of(zone.as_deref()), Ok(Clock::Fixed(0))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::calendar::{MICROS, SECOND};
    use super::*;

    const ALL: [Bucket; 16] = [
        Bucket::Micros(1),
        Bucket::Micros(SECOND),
        Bucket::Micros(7 * SECOND),
        Bucket::Micros(MINUTE),
        Bucket::Micros(15 * MINUTE),
        Bucket::Micros(HOUR),
        Bucket::Micros(7 * HOUR),
        Bucket::DAY,
        Bucket::Micros(7 * DAY),
        Bucket::Week,
        Bucket::Months(1),
        Bucket::Months(3),
        Bucket::Months(5),
        Bucket::Months(12),
        Bucket::Years(10),
        Bucket::Years(100),
    ];

    proptest! {
        #[test]
        fn what_refines_has_the_same_coarse_start(at in MICROS) {
            for fine in ALL {
                for coarse in ALL {
                    let through = fine.start(at).and_then(|start| coarse.start(start));
                    prop_assert!(!fine.refines(coarse) || through == coarse.start(at), "{fine:?} {coarse:?} {at}");
                }
            }
        }
    }

    #[test]
    fn buckets_refine_coarser_ones_alone() {
        for (fine, coarse, expect) in [
            (Bucket::Micros(MINUTE), Bucket::Micros(HOUR), true),
            (Bucket::Micros(HOUR), Bucket::Micros(MINUTE), false),
            (Bucket::Micros(7 * HOUR), Bucket::DAY, false),
            (Bucket::Micros(HOUR), Bucket::Week, true),
            (Bucket::Micros(7 * DAY), Bucket::Week, false),
            (Bucket::Week, Bucket::Months(1), false),
            (Bucket::Months(1), Bucket::Months(12), true),
            (Bucket::Months(5), Bucket::Months(12), false),
            (Bucket::Months(12), Bucket::Years(10), true),
            (Bucket::Years(10), Bucket::Years(100), false),
            (Bucket::Week, Bucket::Week, true),
        ] {
            assert_eq!(fine.refines(coarse), expect, "{fine:?} {coarse:?}");
        }
        assert!(Bucket::Week.starts_at(4 * DAY) && !Bucket::Week.starts_at(0));
        assert!(Bucket::Months(3).starts_at(90 * DAY) && !Bucket::Months(3).starts_at(31 * DAY));
    }
}
