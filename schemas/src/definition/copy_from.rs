//! `COPY stream FROM 'files' WITH (…)`: history from files.
//!
//! DataFusion's parser knows COPY TO alone, so the tokens go to the parser of PostgreSQL's COPY.
//!
//! Invariant: nothing that the statement says is ignored.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{CopyOption, CopySource, CopyTarget, Spanned, Statement as Sql};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::definition::pieces::Piece;
use crate::definition::statement::{CopiedFiles, PlacedStatement, Statement, normal, stream_name};
use crate::error::TextSpan;
use crate::{Error, Result};

/// The formats that a statement may name.
const FORMATS: [&str; 6] = ["avro", "csv", "tsv", "json", "ndjson", "parquet"];

/// A COPY that reads files; `None` for every other statement.
///
/// Errors: [`Error::ParseSql`], [`Error::RefuseDefinition`].
pub(super) fn copy_from(piece: &Piece<'_>) -> Result<Option<PlacedStatement>> {
    if !piece.begins_with(Keyword::COPY) || piece.clause(&[Keyword::FROM]).is_none() {
        return Ok(None);
    }
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(piece.parsed_tokens());
    let parsed = parser.parse_statement().and_then(|parsed| match parser.peek_token() {
        end if end.token == Token::EOF => Ok(parsed),
        more => parser.expected("the end of the statement", more),
    });
    let parsed = match parsed {
        Ok(parsed) => parsed,
        // A query may have a FROM: COPY (SELECT … FROM …) TO.
        Err(_) if piece.clause(&[Keyword::TO]).is_some() => return Ok(None),
        Err(error) => return Err(piece.explain(&DataFusionError::SQL(Box::new(error), None))),
    };
    let Sql::Copy { source, to: false, target, options, legacy_options, values: _ } = parsed else { return Ok(None) };
    let refuse = |what: &str, help: &str| Err(Error::refuse(what, help).at(piece.focus()));
    let CopySource::Table { table_name, columns } = source else {
        return refuse("COPY FROM fills a stream", "Write COPY stream FROM 'files'.");
    };
    if !columns.is_empty() {
        return refuse(
            "Columns of files meet those of the stream by their names",
            "Leave out the list of columns; a column that the files do not have is NULL.",
        );
    }
    let CopyTarget::File { filename } = target else {
        return refuse(
            "COPY FROM reads files that the server reaches",
            "Write COPY stream FROM 's3://bucket/*.parquet'; `thalweg load` and `thalweg produce` read files of yours.",
        );
    };
    if !legacy_options.is_empty() {
        return refuse("Options of COPY stand in brackets", "Write COPY stream FROM 'files' WITH (FORMAT csv).");
    }
    if options.is_empty() && piece.clause(&[Keyword::WITH]).is_some() {
        return refuse("Nothing stands behind WITH", "Leave it out, or write WITH (FORMAT csv).");
    }
    let mut format = None;
    for option in options {
        match option {
            CopyOption::Format(_) if format.is_some() => {
                return refuse("The format of the files is said twice", "Say it once: WITH (FORMAT csv).");
            }
            CopyOption::Format(name) if FORMATS.contains(&normal(&name).as_str()) => format = Some(normal(&name)),
            CopyOption::Format(name) => {
                return refuse(
                    &format!("COPY FROM reads no files of the format `{name}`"),
                    &format!("Use one of {}.", FORMATS.join(", ")),
                );
            }
            // The names of columns are always in the first line.
            CopyOption::Header(true) => {}
            other => {
                return refuse(
                    &format!("COPY FROM does not know the option {other}"),
                    "Use FORMAT; the first line of CSV and TSV has the names of columns.",
                );
            }
        }
    }
    let subject = TextSpan::of_parser(table_name.span());
    let files = CopiedFiles { stream: stream_name(&table_name)?, from: filename, format };
    Ok(Some(PlacedStatement { statement: Statement::CopyFrom(files), subject, stream: None }))
}
