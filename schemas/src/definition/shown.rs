//! A stream's definition as users see it.
//!
//! Older catalogs may hold definitions with secrets, which are refused today. Invariant: a value that a definition may
//! not set is never shown, however it was written. Such a statement is written anew from its parsed parts.

use std::fmt::Write;

use datafusion::sql::parser::Statement as Parsed;

use crate::definition::kafka_options::{KAFKA, refused};
use crate::definition::pieces;
use crate::definition::stream::StreamDefinition;

/// The text in place of a hidden value.
const HIDDEN: &str = "***";

impl StreamDefinition {
    /// The statement for users: as it was written, or written anew with hidden values if it sets properties that
    /// definitions may not set.
    pub fn shown_sql(&self) -> String {
        if refused(&self.kafka).is_none() {
            return self.sql.clone();
        }
        let mut sql = format!("CREATE EXTERNAL TABLE {}", self.name);
        if let Some(columns) = columns(&self.sql) {
            // Writing to a string cannot fail.
            let _ = write!(sql, " ({})", columns.join(", "));
        }
        let mut options = vec![option("format", self.format.name())];
        options.extend(self.event_time.iter().map(|column| option("event_time", column)));
        options.extend(self.connection.iter().map(|name| option("connection", name)));
        options.extend(self.kafka.iter().map(|(property, value)| {
            let one = [(property.clone(), value.clone())].into();
            let value = if refused(&one).is_none() { value } else { HIDDEN };
            option(&format!("{KAFKA}{property}"), value)
        }));
        let _ = write!(sql, " STORED AS KAFKA LOCATION '{}' OPTIONS ({})", self.topic, options.join(", "));
        sql
    }
}

fn option(name: &str, value: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    format!("{} {}", quoted(name), quoted(value))
}

/// The declared columns of a stream's statement.
fn columns(sql: &str) -> Option<Vec<String>> {
    match pieces::split(sql).ok()?.first()?.parse().ok()? {
        Parsed::CreateExternalTable(create) => Some(create.columns.iter().map(ToString::to_string).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Statement;
    use crate::definition::parse::read_kept;

    /// The shown text of a kept statement with these options.
    fn shown(options: &str) -> String {
        let sql = format!(
            "CREATE EXTERNAL TABLE s (a INT NOT NULL, b STRING) STORED AS KAFKA LOCATION 't' OPTIONS ({options})"
        );
        let pieces = pieces::split(&sql).unwrap();
        match read_kept(&pieces[0]).unwrap().remove(0).statement {
            Statement::CreateStream { definition, .. } => definition.shown_sql(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        for value in ["'hunter2'", "\"hunter2\"", "hunter2", "E'hunter2'", "E'hunte\\x722'"] {
            for property in ["'kafka.sasl.password'", "\"kafka.sasl.password\"", "kafka.sasl.password"] {
                let shown = shown(&format!("{property} {value}"));
                assert!(!shown.contains("hunte"), "{shown}");
                assert_eq!(
                    shown,
                    "CREATE EXTERNAL TABLE s (a INT NOT NULL, b STRING) STORED AS KAFKA LOCATION 't' \
                     OPTIONS ('format' 'json', 'kafka.sasl.password' '***')"
                );
            }
        }
        for (value, part) in [("4711", "4711"), ("'it''s 9'", "it"), ("'${file:/run/key}'", "/run/key")] {
            let shown = shown(&format!("'kafka.sasl.password' {value}, 'kafka.client.id' 'me'"));
            assert!(!shown.contains(part), "{shown}");
            assert!(shown.ends_with("'kafka.client.id' 'me', 'kafka.sasl.password' '***')"), "{shown}");
        }
    }

    #[test]
    fn an_accepted_definition_is_shown_as_it_was_written() {
        for options in ["'format' 'json'", "kafka.client.id me /* mine */, 'connection' 'eu'"] {
            assert!(shown(options).ends_with(&format!("OPTIONS ({options})")));
        }
    }
}
