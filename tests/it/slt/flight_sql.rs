//! The SQL files through Arrow Flight SQL: the columns and values of an answer in the words of the HTTP door.
//!
//! Invariant: a value is written as HTTP has it in JSON, so both doors are compared character by character.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use serde_json::Value;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tonic::transport::{Channel, Endpoint};

use super::{Refused, column_type, plain};

/// A connection to the door.
pub(super) struct FlightSqlDoor(FlightSqlServiceClient<Channel>);

impl FlightSqlDoor {
    /// `address` is `host:port`.
    pub(super) async fn connect(address: &str) -> Self {
        let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self(FlightSqlServiceClient::new(channel))
    }

    async fn answer(&mut self, sql: &str) -> Result<(Schema, Vec<RecordBatch>), FlightError> {
        let info = self.0.execute(sql.to_owned(), None).await?;
        let announced = info.clone().try_decode_schema()?;
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let batches: Vec<RecordBatch> = self.0.do_get(ticket).await?.try_collect().await?;
        for batch in &batches {
            assert_eq!(batch.schema().fields(), announced.fields(), "{sql}");
        }
        Ok((announced, batches))
    }
}

#[async_trait::async_trait]
impl AsyncDB for FlightSqlDoor {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let (schema, batches) = self.answer(sql).await.map_err(refused)?;
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
        Ok(DBOutput::Rows {
            types: schema.fields().iter().map(|field| column_type(&field.data_type().to_string())).collect(),
            rows: rows.map(|(batch, row)| batch.columns().iter().map(|c| text(c, row)).collect()).collect(),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "thalweg"
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// An error in the form that the .slt files expect.
fn refused(error: FlightError) -> Refused {
    let FlightError::Tonic(status) = error else { panic!("{error}") };
    let details = status.metadata().get("thalweg-error").unwrap_or_else(|| panic!("{status}"));
    Refused::of(&serde_json::from_str(details.to_str().unwrap()).unwrap())
}

fn text(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return plain(&Value::Null);
    }
    match column.data_type() {
        DataType::Float32 | DataType::Float64 => {
            // The shortest text that reads back equal depends on the width of the number.
            let short = match column.data_type() {
                DataType::Float32 => format!("{:?}", column.as_primitive::<arrow::datatypes::Float32Type>().value(row)),
                _ => format!("{:?}", column.as_primitive::<arrow::datatypes::Float64Type>().value(row)),
            };
            match short.as_str() {
                "inf" => "Infinity".to_owned(),
                "-inf" => "-Infinity".to_owned(),
                "NaN" => short,
                number => plain(&serde_json::from_str(number).unwrap()),
            }
        }
        DataType::Utf8 => plain(&Value::String(column.as_string::<i32>().value(row).to_owned())),
        nested if nested.is_nested() => json(column, row),
        _ => array_value_to_string(column, row).unwrap(),
    }
}

/// A nested value as JSON.
fn json(column: &ArrayRef, row: usize) -> String {
    let one = RecordBatch::try_from_iter_with_nullable([("v", column.slice(row, 1), true)]).unwrap();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::JsonArray>(Vec::new());
    writer.write(&one).unwrap();
    writer.finish().unwrap();
    let rows: Value = serde_json::from_slice(&writer.into_inner()).unwrap();
    plain(&rows[0]["v"])
}
