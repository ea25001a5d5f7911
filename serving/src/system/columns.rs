//! The columns of the system tables.
//!
//! Invariant: the columns of a table are the fields of its row in [`super::rows`]; a test compares them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::StateTable;

/// Kinds of columns. Frontiers are texts of JSON: the next offset of every partition. So are maps and lists.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Count,
    Number,
    Flag,
    Time,
}

use Kind::{Count, Flag, Number, Text, Time};

pub(super) fn schema(table: StateTable) -> SchemaRef {
    let columns: &[(&str, Kind)] = match table {
        StateTable::Streams => &[
            ("name", Text),
            ("topic", Text),
            ("status", Text),
            ("failure", Text),
            ("answers", Flag),
            ("archive_failure", Text),
            ("unheld", Text),
            ("origin", Text),
            ("frontier", Text),
            ("archive_frontier", Text),
            ("mark", Text),
            ("archive_version", Count),
            ("archive_files", Count),
            ("lag", Count),
            ("rows", Count),
            ("rejects", Count),
            ("latest_event", Time),
            ("memory_bytes", Count),
            ("memory_budget", Count),
            ("paused", Flag),
            ("definition", Text),
        ],
        StateTable::Partitions => &[
            ("stream", Text),
            ("partition", Count),
            ("frontier", Count),
            ("archive_frontier", Count),
            ("high_watermark", Count),
            ("lag", Count),
            ("rows", Count),
            ("rejects", Count),
            ("latest_event", Time),
            ("waiting", Text),
            ("worker", Text),
        ],
        StateTable::Views => &[
            ("name", Text),
            ("stream", Text),
            ("status", Text),
            ("id", Text),
            ("building", Text),
            ("cut", Text),
            ("frontier", Text),
            ("published", Time),
            ("age_seconds", Number),
            ("batch_version", Count),
            ("batch_files", Count),
            ("batch_rows", Count),
            ("segments", Count),
            ("segment_bytes", Count),
            ("failure", Text),
            ("failure_help", Text),
            ("failure_step", Text),
            ("failure_fault", Text),
            ("failure_reason", Text),
            ("failure_expression", Text),
            ("failure_from", Text),
            ("failure_to", Text),
            ("failing_since", Time),
            ("warnings", Text),
            ("definition", Text),
        ],
        StateTable::Workers => &[
            ("address", Text),
            ("up", Flag),
            ("reason", Text),
            ("worker", Text),
            ("stream", Text),
            ("failure", Text),
            ("waiting", Text),
            ("archive_failure", Text),
            ("frontier", Text),
            ("caught_up", Text),
            ("lag", Count),
            ("rows", Count),
            ("rejects", Count),
            ("latest_event", Time),
            ("views", Count),
            ("segments", Count),
            ("failed_views", Text),
            ("delayed_views", Text),
            ("memory_bytes", Count),
            ("memory_budget", Count),
            ("paused", Flag),
        ],
        StateTable::NotUnderstood => &[("kind", Text), ("name", Text), ("reason", Text)],
        StateTable::Process => &[
            ("version", Text),
            ("uptime_seconds", Number),
            ("queries_running", Count),
            ("queries_answered", Count),
            ("queries_failed", Count),
        ],
        StateTable::Runs => &[
            ("view", Text),
            ("view_id", Text),
            ("mode", Text),
            ("outcome", Text),
            ("from", Text),
            ("to", Text),
            ("rows", Count),
            ("groups", Count),
            ("files", Count),
            ("bytes", Count),
            ("seconds", Number),
            ("finished", Time),
            ("error", Text),
        ],
        StateTable::Audits => &[
            ("view", Text),
            ("view_id", Text),
            ("equal", Flag),
            ("cut", Text),
            ("from", Text),
            ("to", Text),
            ("segments", Count),
            ("offsets", Count),
            ("groups", Count),
            ("differences", Count),
            ("finished", Time),
            ("error", Text),
        ],
        StateTable::Rejects => &[("stream", Text), ("partition", Count), ("rejects", Count), ("rows", Count)],
        StateTable::Queries => &[
            ("id", Count),
            ("state", Text),
            ("protocol", Text),
            ("session", Count),
            ("started", Time),
            ("seconds", Number),
            ("rows", Count),
            ("frontier", Text),
            ("query", Text),
        ],
        StateTable::Sessions => &[
            ("id", Count),
            ("protocol", Text),
            ("address", Text),
            ("user", Text),
            ("application", Text),
            ("started", Time),
        ],
        StateTable::Settings => &[("name", Text), ("value", Text), ("source", Text)],
    };
    let field = |(name, kind): &(&str, Kind)| {
        let data_type = match kind {
            Text => DataType::Utf8,
            Count => DataType::Int64,
            Number => DataType::Float64,
            Flag => DataType::Boolean,
            Time => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}
