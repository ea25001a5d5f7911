//! Errors as one sentence, with advice for users of the command line; only the program knows its flags and settings.
//!
//! Invariant: a layer's message is complete without the advice; layers know no flags.

use std::error::Error;

use datafusion::error::DataFusionError;
use thalweg_client::terminal;
use thalweg_schemas::Error as SharedError;
use thalweg_speed::Error as SpeedError;

/// Returns an error and its causes in one line, then advice.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    // The message around a DataFusion error already contains it in better words.
    let quoted = |(depth, cause): &(usize, &(dyn Error + 'static))| *depth == 0 || !cause.is::<DataFusionError>();
    let causes = error.chain().enumerate().take_while(quoted);
    let text = terminal::sentence(causes.map(|(_, cause)| cause));
    match error.chain().find_map(advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(SpeedError::FindBrokers { table, .. }), _) if table == "[kafka]" => {
            Some("give --kafka bootstrap.servers=HOST:PORT, or [kafka] in thalweg.toml")
        }
        (_, Some(SharedError::OpenFolder { .. })) => Some("--data-dir or --warehouse name another place"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_ends_the_sentence() {
        let stream = thalweg_schemas::StreamName::new("s").unwrap();
        let advised = SpeedError::FindBrokers { stream, table: "[kafka]".to_owned() };
        assert_eq!(
            sentence(&advised.into()),
            "[kafka] does not say where Kafka is; stream `s` needs bootstrap.servers there; give --kafka \
             bootstrap.servers=HOST:PORT, or [kafka] in thalweg.toml"
        );
    }
}
