//! Decides what COMMENT ON does to a catalog.
//!
//! Invariant: a comment is set only on what exists, and no entry is left empty.

use super::{Catalog, Comments};
use crate::definition::statement::CommentedKind;
use crate::{Error, Result};

impl Catalog {
    /// Sets or removes a comment. Returns whether the catalog changed, and what was done in words.
    ///
    /// Errors: [`Error::FindDefinition`]; a refusal if the column does not exist, or if this process does not
    /// understand the comments on the name.
    pub(super) fn comment(
        &mut self,
        kind: CommentedKind,
        on: &str,
        column: Option<&str>,
        text: Option<&str>,
        if_exists: bool,
    ) -> Result<(bool, String)> {
        let stream = self.streams.iter().find(|(name, _)| name.as_str() == on).map(|(_, stream)| stream);
        let view = self.views.iter().find(|(name, _)| name.as_str() == on).map(|(_, view)| view);
        let is_kept = self.kept_streams.keys().any(|name| name.as_str() == on);
        let wanted = match kind {
            CommentedKind::Stream => stream.is_some() || is_kept,
            CommentedKind::View => view.is_some(),
            CommentedKind::Either => stream.is_some() || is_kept || view.is_some(),
        };
        if !wanted {
            let kind = match kind {
                CommentedKind::Stream => "stream",
                CommentedKind::View => "view",
                CommentedKind::Either => "stream or view",
            };
            return match if_exists {
                true => Ok((false, format!("there is no {kind} {on}"))),
                false => Err(Error::FindDefinition { kind, name: on.to_owned() }),
            };
        }
        if self.rest.comments.contains_key(on) {
            return Err(Error::refuse(
                format!("the comments on `{on}` were written by a newer version of this program"),
                "Change them with the newer version.",
            ));
        }
        if let (Some(column), Some(_)) = (column, text) {
            let of_stream = stream.map(|stream| stream.definition.table_schema());
            // The newest version of a view has the columns that are going to be shown.
            let newest = view.and_then(|view| view.building.as_ref().or(view.serving.as_ref()));
            let schema = of_stream.or_else(|| newest.map(|view| view.plan.output_schema().clone()));
            if schema.is_some_and(|schema| schema.field_with_name(column).is_err()) {
                return Err(Error::refuse(
                    format!("`{on}` has no column `{column}`"),
                    format!("`DESCRIBE {on}` lists the columns."),
                ));
            }
        }
        let comments = self.comments.entry(on.to_owned()).or_default();
        let before = comments.clone();
        match (column, text) {
            (None, text) => comments.object = text.map(str::to_owned),
            (Some(column), Some(text)) => drop(comments.columns.insert(column.to_owned(), text.to_owned())),
            (Some(column), None) => drop(comments.columns.remove(column)),
        }
        let is_same = *comments == before;
        if *comments == Comments::default() {
            self.comments.remove(on);
        }
        let place = column.map_or_else(|| on.to_owned(), |column| format!("{on}.{column}"));
        Ok(match (is_same, text) {
            (true, _) => (false, format!("the comment on {place} is as it was")),
            (false, Some(_)) => (true, format!("commented on {place}")),
            (false, None) => (true, format!("removed the comment on {place}")),
        })
    }
}
