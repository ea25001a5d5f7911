//! What drivers ask of a server once: its abilities and limits, and the types of its SQL.
//!
//! Invariant: an ability that is named here is tested, or is the absence of one.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, SqlInfo, XdbcDataType, XdbcDatetimeSubcode};

use crate::{Error, Result};

/// The words that cannot be names without quotes, beside those of SQL:2003.
const KEYWORDS: [&str; 14] = [
    "ANTI",
    "ASOF",
    "EXPLAIN",
    "EXTERNAL",
    "ILIKE",
    "LIMIT",
    "LOCATION",
    "MATERIALIZED",
    "OFFSET",
    "QUALIFY",
    "REPLACE",
    "SEMI",
    "STORED",
    "VIEW",
];

const NUMERIC: [&str; 22] = [
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln", "log10", "log2",
    "pi", "power", "radians", "round", "sin", "sqrt", "tan", "trunc",
];

const TEXT: [&str; 21] = [
    "ascii",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "strpos",
    "substr",
    "upper",
];

const TIME: [&str; 8] =
    ["current_date", "date_bin", "date_part", "date_trunc", "make_date", "now", "to_char", "to_timestamp"];

/// Bits of a set of numbered abilities.
fn bits(of: &[u32]) -> i32 {
    of.iter().fold(0, |bits, bit| bits | (1 << bit))
}

/// The facts in `wanted`, or all. `statement` is the longest text, in bytes.
///
/// Errors: [`Error::Encode`], never in practice.
pub(super) fn sql_info(wanted: &[u32], statement: usize) -> Result<RecordBatch> {
    use SqlInfo as I;
    let mut facts = SqlInfoDataBuilder::new();
    facts.append(I::FlightSqlServerName, "Thalweg");
    facts.append(I::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    facts.append(I::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    for text in [
        (I::SqlIdentifierQuoteChar, "\""),
        (I::SqlSearchStringEscape, "\\"),
        (I::SqlExtraNameCharacters, ""),
        (I::SqlSchemaTerm, "schema"),
        (I::SqlProcedureTerm, "procedure"),
        (I::SqlCatalogTerm, "catalog"),
    ] {
        facts.append(text.0, text.1);
    }
    for able in [
        I::FlightSqlServerReadOnly,
        I::FlightSqlServerSql,
        I::FlightSqlServerCancel,
        I::SqlDdlTable,
        I::SqlAllTablesAreSelectable,
        I::SqlSupportsColumnAliasing,
        I::SqlNullPlusNullIsNull,
        I::SqlSupportsTableCorrelationNames,
        I::SqlSupportsExpressionsInOrderBy,
        I::SqlSupportsOrderByUnrelated,
        I::SqlSupportsNonNullableColumns,
        I::SqlCatalogAtStart,
        I::SqlCorrelatedSubqueriesSupported,
    ] {
        facts.append(able, true);
    }
    for unable in [
        I::FlightSqlServerSubstrait,
        I::FlightSqlServerBulkIngestion,
        I::FlightSqlServerIngestTransactionsSupported,
        I::SqlDdlCatalog,
        I::SqlDdlSchema,
        I::SqlSupportsDifferentTableCorrelationNames,
        I::SqlSupportsLikeEscapeClause,
        I::SqlSupportsIntegrityEnhancementFacility,
        I::SqlSelectForUpdateSupported,
        I::SqlStoredProceduresSupported,
        I::SqlMaxRowSizeIncludesBlobs,
        I::SqlTransactionsSupported,
        I::SqlDataDefinitionCausesTransactionCommit,
        I::SqlDataDefinitionsInTransactionsIgnored,
        I::SqlBatchUpdatesSupported,
        I::SqlSavepointsSupported,
        I::SqlNamedParametersSupported,
        I::SqlLocatorsUpdateCopy,
        I::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        facts.append(unable, false);
    }
    for (set, members) in [
        (I::FlightSqlServerTransaction, 0),
        (I::FlightSqlServerStatementTimeout, 0),
        (I::FlightSqlServerTransactionTimeout, 0),
        // Names without quotes are kept in lower case; in quotes, as they are.
        (I::SqlIdentifierCase, 3),
        (I::SqlQuotedIdentifierCase, 0),
        // NULLs sort above everything.
        (I::SqlNullOrdering, 0),
        (I::SqlSupportedGroupBy, bits(&[0, 1])),
        (I::SqlSupportedGrammar, bits(&[0, 1])),
        (I::SqlAnsi92SupportedLevel, bits(&[0])),
        (I::SqlOuterJoinsSupportLevel, bits(&[1, 2])),
        (I::SqlSchemasSupportedActions, 0),
        (I::SqlCatalogsSupportedActions, 0),
        (I::SqlSupportedPositionedCommands, 0),
        (I::SqlSupportedSubqueries, bits(&[0, 1, 2])),
        (I::SqlSupportedUnions, bits(&[0, 1])),
        (I::SqlSupportedTransactionsIsolationLevels, bits(&[0])),
        (I::SqlSupportedResultSetTypes, bits(&[1])),
        (I::SqlSupportedConcurrenciesForResultSetUnspecified, 0),
        (I::SqlSupportedConcurrenciesForResultSetForwardOnly, bits(&[1])),
        (I::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
        (I::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
    ] {
        facts.append(set, members);
    }
    // Zero: no limit of its own, or none that is known.
    for limit in [
        I::SqlMaxBinaryLiteralLength,
        I::SqlMaxCharLiteralLength,
        I::SqlMaxColumnNameLength,
        I::SqlMaxColumnsInGroupBy,
        I::SqlMaxColumnsInIndex,
        I::SqlMaxColumnsInOrderBy,
        I::SqlMaxColumnsInSelect,
        I::SqlMaxColumnsInTable,
        I::SqlMaxConnections,
        I::SqlMaxCursorNameLength,
        I::SqlMaxIndexLength,
        I::SqlDbSchemaNameLength,
        I::SqlMaxProcedureNameLength,
        I::SqlMaxCatalogNameLength,
        I::SqlMaxRowSize,
        I::SqlMaxStatements,
        I::SqlMaxTableNameLength,
        I::SqlMaxTablesInSelect,
        I::SqlMaxUsernameLength,
        I::SqlDefaultTransactionIsolation,
    ] {
        facts.append(limit, 0_i64);
    }
    facts.append(I::SqlMaxStatementLength, i64::try_from(statement).unwrap_or(i64::MAX));
    facts.append(I::SqlKeywords, &KEYWORDS[..]);
    facts.append(I::SqlNumericFunctions, &NUMERIC[..]);
    facts.append(I::SqlStringFunctions, &TEXT[..]);
    facts.append(I::SqlSystemFunctions, &["version"][..]);
    facts.append(I::SqlDatetimeFunctions, &TIME[..]);
    facts.append(I::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    let facts = facts.build().map_err(encoding)?;
    let known = |number: &&u32| i32::try_from(**number).is_ok_and(|number| SqlInfo::try_from(number).is_ok());
    let mut known: Vec<u32> = wanted.iter().filter(known).copied().collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() && !wanted.is_empty() {
        // No number is this one, so no fact is returned; an empty list asks for all.
        known.push(u32::MAX);
    }
    facts.record_batch(known).map_err(encoding)
}

/// The types of SQL; those of one number of XDBC, or all.
///
/// Errors: [`Error::Encode`], never in practice.
pub(super) fn types(data_type: Option<i32>) -> Result<RecordBatch> {
    use XdbcDataType as X;
    let mut types = XdbcTypeInfoDataBuilder::new();
    let number = |name: &str, data_type, digits, radix, unsigned| XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(unsigned),
        num_prec_radix: Some(radix),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        ..of_type(name, data_type)
    };
    let quoted = |name: &str, data_type, size| XdbcTypeInfo {
        column_size: Some(size),
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        case_sensitive: matches!(data_type, X::XdbcVarchar),
        ..of_type(name, data_type)
    };
    types.append(of_type("BOOLEAN", X::XdbcBit));
    for (name, data_type, digits) in [
        ("TINYINT", X::XdbcTinyint, 3),
        ("SMALLINT", X::XdbcSmallint, 5),
        ("INTEGER", X::XdbcInteger, 10),
        ("BIGINT", X::XdbcBigint, 19),
    ] {
        types.append(number(name, data_type, digits, 10, false));
        types.append(number(&format!("{name} UNSIGNED"), data_type, digits, 10, true));
    }
    types.append(number("REAL", X::XdbcReal, 24, 2, false));
    types.append(number("DOUBLE", X::XdbcDouble, 53, 2, false));
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        fixed_prec_scale: true,
        maximum_scale: Some(76),
        ..number("DECIMAL", X::XdbcDecimal, 76, 10, false)
    });
    types.append(quoted("STRING", X::XdbcVarchar, i32::MAX));
    types.append(XdbcTypeInfo { literal_prefix: Some("X'".into()), ..quoted("BYTEA", X::XdbcVarbinary, i32::MAX) });
    types.append(quoted("DATE", X::XdbcDate, 10));
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTime),
        ..quoted("TIME", X::XdbcTime, 18)
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
        ..quoted("TIMESTAMP", X::XdbcTimestamp, 29)
    });
    types.append(quoted("INTERVAL", X::XdbcInterval, 64));
    types.build().and_then(|types| types.record_batch(data_type)).map_err(encoding)
}

fn of_type(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        ..XdbcTypeInfo::default()
    }
}

fn encoding(error: FlightError) -> Error {
    Error::Encode(arrow::error::ArrowError::ExternalError(Box::new(error)))
}
