//! SQL keywords for completion and highlighting.
//!
//! Invariant: all words are in upper case.

/// The words that may begin a statement.
pub(super) const FIRST: [&str; 11] = [
    "SELECT",
    "WITH",
    "EXPLAIN",
    "DESCRIBE",
    "SHOW",
    "VALUES",
    "CREATE MATERIALIZED VIEW",
    "CREATE EXTERNAL TABLE",
    "DROP MATERIALIZED VIEW",
    "DROP TABLE",
    "COMMENT ON",
];

#[rustfmt::skip]
pub(super) const KEYWORDS: [&str; 57] = [
    "ALL", "AND", "ANY", "AS", "ASC", "BETWEEN", "BY", "CASE", "CAST", "CROSS JOIN", "DATE", "DESC", "DISTINCT",
    "ELSE", "END", "EXCEPT", "EXISTS", "EXTRACT", "FALSE", "FILTER (WHERE", "FROM", "FULL JOIN", "GROUP BY", "HAVING",
    "ILIKE", "IN", "INNER JOIN", "INTERSECT", "INTERVAL", "IS NOT NULL", "IS NULL", "JOIN", "LEFT JOIN", "LIKE",
    "LIMIT", "NOT", "NULL", "NULLS FIRST", "NULLS LAST", "OFFSET", "ON", "OPTIONS", "OR", "ORDER BY", "OVER",
    "PARTITION BY", "RIGHT JOIN", "ROWS", "SELECT", "STORED AS KAFKA", "THEN", "TIMESTAMP", "TRUE", "UNION ALL",
    "USING", "WHEN", "WHERE",
];

/// The words that a table may follow.
pub(super) const BEFORE_TABLE: [&str; 7] = ["FROM", "JOIN", "TABLE", "VIEW", "DESCRIBE", "DESC", "EXISTS"];

/// The clauses; the latest one before the cursor determines the kind of list that a comma continues.
pub(super) const CLAUSES: [&str; 8] = ["SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "ON", "LIMIT"];

/// Returns the only words that can follow `word`.
pub(super) fn following(word: &str) -> Option<&'static [&'static str]> {
    Some(match word.to_uppercase().as_str() {
        "CREATE" => {
            &["EXTERNAL TABLE", "MATERIALIZED VIEW", "OR REPLACE EXTERNAL TABLE", "OR REPLACE MATERIALIZED VIEW"]
        }
        "REPLACE" => &["EXTERNAL TABLE", "MATERIALIZED VIEW"],
        "DROP" => &["MATERIALIZED VIEW", "TABLE"],
        "MATERIALIZED" => &["VIEW"],
        "EXTERNAL" => &["TABLE"],
        "SHOW" => &["COLUMNS FROM", "CREATE TABLE", "FUNCTIONS", "TABLES"],
        "EXPLAIN" => &["ANALYZE", "SELECT", "VERBOSE", "WITH"],
        "GROUP" | "ORDER" | "PARTITION" => &["BY"],
        "STORED" => &["AS KAFKA"],
        _ => return None,
    })
}

/// True for the words in [`KEYWORDS`] and [`FIRST`], and for a few that are not worth completing.
pub(super) fn is_keyword(word: &str) -> bool {
    const MORE: [&str; 9] = ["ANALYZE", "COLUMNS", "FUNCTIONS", "IF", "OUTER", "REPLACE", "TABLES", "UNION", "VERBOSE"];
    let word = word.to_uppercase();
    let phrases = FIRST.iter().chain(&KEYWORDS);
    let mut parts = phrases.flat_map(|phrase| phrase.split([' ', '(']));
    parts.any(|part| part == word) || MORE.contains(&word.as_str())
}

/// True for words that are names only if quoted.
pub(super) fn is_reserved(word: &str) -> bool {
    #[rustfmt::skip]
    const RESERVED: [&str; 24] = [
        "ALL", "AND", "AS", "BY", "CASE", "CAST", "CROSS", "DISTINCT", "EXCEPT", "FROM", "GROUP", "HAVING", "IN",
        "INTERSECT", "JOIN", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER", "SELECT", "UNION", "WHERE",
    ];
    RESERVED.contains(&word.to_uppercase().as_str())
}
