//! The same statements over the PostgreSQL protocol: the simple one for answers, the extended one for their types.

use std::time::Duration;

use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Column, NoTls, SimpleQueryMessage};

use super::Refused;

/// The modifier of the numeric that stands for unsigned integers of 64 bits.
const UNSIGNED: i32 = (20 << 16) + 4;

pub(super) struct Postgres(Client);

impl Postgres {
    /// Connects to `address`, which is `host:port`.
    pub(super) async fn connect(address: &str) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&format!("postgres://slt@{address}/thalweg"), NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }
}

#[async_trait::async_trait]
impl AsyncDB for Postgres {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        self.0.simple_query("RESET ALL").await.unwrap();
        let statement = self.0.prepare(sql).await.map_err(|error| refused(&error, sql))?;
        let messages = self.0.simple_query(sql).await.map_err(|error| refused(&error, sql))?;
        let columns = statement.columns();
        if columns.is_empty() {
            // HTTP has a row for each definition.
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text; 2], rows: vec![vec!["done".into(); 2]] });
        }
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some(columns.iter().enumerate().map(|(at, column)| as_over_http(column, row.get(at))).collect())
            }
            _ => None,
        });
        Ok(DBOutput::Rows { types: columns.iter().map(column_type).collect(), rows: rows.collect() })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "postgres"
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn refused(error: &tokio_postgres::Error, sql: &str) -> Refused {
    let Some(error) = error.as_db_error() else { return Refused(error.to_string()) };
    let code = error.routine().unwrap_or(error.code().code());
    let mut text = format!("{code}: {}", error.message());
    if let Some(ErrorPosition::Original(position)) = error.position() {
        let before: String = sql.chars().take(*position as usize - 1).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        text.push_str(&format!(" ({line}:{column})"));
    }
    Refused(text)
}

/// A value in the words of HTTP's JSON.
fn as_over_http(column: &Column, value: Option<&str>) -> String {
    let Some(text) = value else { return "NULL".to_owned() };
    match *column.type_() {
        _ if text.is_empty() => "(empty)".to_owned(),
        Type::BOOL => if text == "t" { "true" } else { "false" }.to_owned(),
        Type::FLOAT4 | Type::FLOAT8 => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => format!("{number:?}"),
            _ => text.to_owned(),
        },
        Type::TIMESTAMP | Type::TIMESTAMPTZ => text.replace(' ', "T").replace("+00", "Z"),
        _ => text.to_owned(),
    }
}

fn column_type(column: &Column) -> DefaultColumnType {
    match *column.type_() {
        Type::INT2 | Type::INT4 | Type::INT8 => DefaultColumnType::Integer,
        Type::NUMERIC if column.type_modifier() == UNSIGNED => DefaultColumnType::Integer,
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => DefaultColumnType::FloatingPoint,
        Type::TEXT => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}
