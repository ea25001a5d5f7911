//! The settings that clients of PostgreSQL ask for.

/// The version whose catalog is shown. It decides which columns clients ask for.
pub(crate) const VERSION: &str = "17.0";

/// Names, values and short descriptions.
pub(super) const SETTINGS: [(&str, &str, &str); 24] = [
    ("application_name", "", "Sets the application name to be reported in statistics and logs."),
    ("bytea_output", "hex", "Sets the output format for bytea."),
    ("client_encoding", "UTF8", "Sets the client's character set encoding."),
    ("client_min_messages", "notice", "Sets the message levels that are sent to the client."),
    ("DateStyle", "ISO, MDY", "Sets the display format for date and time values."),
    (
        "default_transaction_isolation",
        "read committed",
        "Sets the transaction isolation level of each new transaction.",
    ),
    ("default_table_access_method", "heap", "Sets the default table access method for new tables."),
    ("default_tablespace", "", "Sets the default tablespace to create tables and indexes in."),
    ("default_transaction_read_only", "off", "Sets the default read-only status of new transactions."),
    ("extra_float_digits", "1", "Sets the number of digits displayed for floating-point values."),
    ("integer_datetimes", "on", "Shows whether datetimes are integer based."),
    ("IntervalStyle", "postgres", "Sets the display format for interval values."),
    ("jit", "off", "Allow JIT compilation."),
    ("lc_collate", "C", "Shows the collation order locale."),
    ("max_identifier_length", "63", "Shows the maximum identifier length."),
    ("max_index_keys", "32", "Shows the maximum number of index keys."),
    ("search_path", "\"$user\", public", "Sets the schema search order for names that are not schema-qualified."),
    ("server_encoding", "UTF8", "Shows the server (database) character set encoding."),
    ("server_version", VERSION, "Shows the server version."),
    ("server_version_num", "170000", "Shows the server version as an integer."),
    ("standard_conforming_strings", "on", "Causes '...' strings to treat backslashes literally."),
    ("statement_timeout", "0", "Sets the maximum allowed duration of any statement."),
    ("TimeZone", "UTC", "Sets the time zone for displaying and interpreting time stamps."),
    ("transaction_isolation", "read committed", "Sets the current transaction's isolation level."),
];

/// The value of a setting, whatever the case of its name.
pub(super) fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).map(|(_, value, _)| *value)
}
