//! A parsed statement: a definition to create or to drop, or a query, which is passed on unchanged.
//!
//! Invariant: each value in a statement is valid by itself. No name in a statement has been looked up yet.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Spanned};

use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::definition::view::ViewDefinition;
use crate::error::TextSpan;
use crate::{Error, Result, StreamName, ViewName};

/// One statement of a file or a request.
#[derive(Debug, Clone)]
pub enum Statement {
    CreateStream {
        definition: StreamDefinition,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// A stream whose columns are found out before it is created.
    CreateOpenStream(OpenStream),
    CreateView {
        definition: ViewDefinition,
        or_replace: bool,
        if_not_exists: bool,
    },
    /// `ALTER TABLE stream ADD COLUMN …`.
    AddColumns {
        stream: StreamName,
        columns: Vec<AddedColumn>,
        if_exists: bool,
    },
    DropStream {
        name: StreamName,
        if_exists: bool,
    },
    DropView {
        name: ViewName,
        if_exists: bool,
    },
    /// `COMMENT ON kind on.column IS text`; without a text, the comment is removed.
    Comment {
        kind: CommentedKind,
        on: String,
        column: Option<String>,
        text: Option<String>,
        if_exists: bool,
    },
    /// `COPY stream FROM 'files'`, which changes no definition.
    CopyFrom(CopiedFiles),
    /// `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW` or `DESCRIBE`, as the user wrote it.
    Query(String),
}

/// A CREATE of a stream without columns, and what leads to its topic.
#[derive(Debug, Clone)]
pub struct OpenStream {
    pub name: StreamName,
    pub topic: String,
    pub format: RecordFormat,
    pub connection: Option<String>,
    pub or_replace: bool,
    /// The statement as the user wrote it, up to the name of the stream and behind it.
    pub(super) start: String,
    pub(super) end: String,
}

impl OpenStream {
    /// The statement with columns: `(a INT, b STRING)`.
    pub fn text_with(&self, columns: &str) -> String {
        format!("{} {columns}{}", self.start, self.end)
    }
}

/// The files of a COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedFiles {
    pub stream: StreamName,
    /// A path or URL, whose names may have `*`, `?` and `[…]`.
    pub from: String,
    /// The name of the format, if the statement says it.
    pub format: Option<String>,
}

/// A column that a stream gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedColumn {
    pub name: String,
    /// Name and type in SQL.
    pub text: String,
    pub if_not_exists: bool,
}

/// What a comment is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentedKind {
    Stream,
    View,
    /// A column of a stream or a view.
    Either,
}

/// A statement and the places of its names.
#[derive(Debug)]
pub(crate) struct PlacedStatement {
    pub(crate) statement: Statement,
    /// The place of the name that is created or dropped. For a query, the whole query.
    pub(crate) subject: Option<TextSpan>,
    /// The place of the stream's name in the query of a view.
    pub(crate) stream: Option<TextSpan>,
}

/// The name of an identifier: lower case unless quoted.
pub(super) fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The only part of a name that has no catalog and no schema.
fn bare_name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Ok(normal(ident)),
        _ => Err(Error::refuse(format!("`{name}` has a schema in front"), "Streams and views have plain names.")),
    }
}

/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn stream_name(name: &ObjectName) -> Result<StreamName> {
    bare_name(name).and_then(|name| Ok(StreamName::new(&name)?)).map_err(|e| e.at(TextSpan::of_parser(name.span())))
}

/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn view_name(name: &ObjectName) -> Result<ViewName> {
    bare_name(name).and_then(|name| Ok(ViewName::new(&name)?)).map_err(|e| e.at(TextSpan::of_parser(name.span())))
}
