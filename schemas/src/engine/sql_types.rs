//! The meaning of types in SQL where the engine's own meaning is narrower than a stream's type.
//!
//! Invariant: TIMESTAMP is in microseconds in queries too. In nanoseconds it would end in the year 2262.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

use super::time_functions::ZONE;

/// Plans TIMESTAMP, with and without a time zone.
#[derive(Debug)]
pub(super) struct MicrosecondTypes;

impl TypePlanner for MicrosecondTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let SqlType::Timestamp(None | Some(6 | 9), zone) = sql_type else { return Ok(None) };
        let zone = match zone {
            TimezoneInfo::Tz | TimezoneInfo::WithTimeZone => Some(ZONE.into()),
            TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => None,
        };
        let planned = DataType::Timestamp(TimeUnit::Microsecond, zone);
        Ok(Some(Arc::new(Field::new("", planned, true))))
    }
}
