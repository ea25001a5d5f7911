//! Decides the catalog that results from a change. This file reads and writes nothing.
//!
//! Invariant: a change is made whole or not at all. The result holds exactly the effects of the statements, in their
//! order.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::file::compile_view;
use super::shape::{is_same, keep_shape, widened};
use super::{Applied, Catalog, CatalogStream, CatalogView};
use crate::decode;
use crate::definition::statement::Statement;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::{Error, Frontier, Result, StreamName, ViewId, ViewName};

/// A requested change.
#[derive(Debug)]
pub(crate) enum Change {
    /// `repeated`: a definition that stands as it is written is no conflict.
    Statements { statements: Vec<Statement>, repeated: bool },
    /// Partitions of a stream that were found, and their first offsets.
    Origin(StreamName, Frontier),
    /// The first cut of a view that was being built has been published.
    Promote(ViewName, ViewId),
}

/// Facts about the warehouse that a decision needs besides the catalog.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Streams that have a master dataset.
    pub(crate) archived: BTreeSet<StreamName>,
}

/// The catalog after a change.
#[derive(Debug)]
pub(crate) struct Decision {
    /// `None` if there is nothing to write.
    pub(crate) catalog: Option<Catalog>,
    /// One entry per statement; empty for other changes.
    pub(crate) applied: Vec<Applied>,
    /// The reason of the version, as written into its file.
    pub(crate) changes: Vec<String>,
}

impl Change {
    /// Decides the catalog that follows `catalog`. The writer sets its version.
    ///
    /// Errors: the statement that cannot be applied, and the reason.
    pub(crate) async fn decide(&self, catalog: &Catalog, facts: &Facts) -> Result<Decision> {
        let mut next = catalog.clone();
        match self {
            Change::Statements { statements, repeated } => {
                let mut applied = Vec::new();
                let mut changes = Vec::new();
                for statement in statements {
                    let (effect, warnings) = next.apply(statement, facts, *repeated).await?;
                    let action = match effect {
                        Effect::Changed(action) => {
                            changes.push(action.clone());
                            action
                        }
                        Effect::Nothing(action) => action,
                    };
                    applied.push(Applied { action, warnings });
                }
                Ok(Decision { catalog: (!changes.is_empty()).then_some(next), applied, changes })
            }
            Change::Origin(name, found) => {
                let stream = next.streams.get(name).ok_or_else(|| missing_stream(name))?;
                let origin = stream.origin.or(found);
                if origin == stream.origin {
                    return Ok(Decision::nothing());
                }
                let stream = CatalogStream { origin, ..CatalogStream::clone(stream) };
                let change = format!("recorded the origin {} of stream {name}", stream.origin);
                next.streams.insert(name.clone(), Arc::new(stream));
                Ok(Decision::changed(next, change))
            }
            Change::Promote(name, id) => {
                let view = next.views.get_mut(name).ok_or_else(|| missing_view(name))?;
                // What this process does not understand is the newest definition. An older one must not replace it.
                if view.not_understood().is_some() {
                    return Ok(Decision::nothing());
                }
                match view.building.take_if(|view| view.plan.id() == id) {
                    None => Ok(Decision::nothing()),
                    built => {
                        view.serving = built;
                        view.kept = None;
                        Ok(Decision::changed(next, format!("view {name} serves {id}")))
                    }
                }
            }
        }
    }
}

impl Decision {
    fn nothing() -> Self {
        Self { catalog: None, applied: Vec::new(), changes: Vec::new() }
    }

    fn changed(catalog: Catalog, change: String) -> Self {
        Self { catalog: Some(catalog), applied: Vec::new(), changes: vec![change] }
    }
}

/// The effect of a statement on the catalog, in words.
enum Effect {
    Changed(String),
    Nothing(String),
}

impl Catalog {
    async fn apply(&mut self, statement: &Statement, facts: &Facts, repeated: bool) -> Result<(Effect, Vec<String>)> {
        match statement {
            Statement::CreateStream { definition, or_replace, if_not_exists } => {
                let name = &definition.name;
                if self.views.keys().any(|view| view.as_str() == name.as_str()) {
                    return Err(exists("view", name.as_str()));
                }
                decode::check(definition)?;
                let effect = match self.streams.get(name) {
                    None if self.kept_streams.contains_key(name) => return Err(kept_stream(name)),
                    None => self.create_stream(definition, facts)?,
                    Some(before) if repeated && is_same(&before.definition, definition) => {
                        Effect::Nothing(format!("stream {name} is as it was"))
                    }
                    Some(_) if *if_not_exists => Effect::Nothing(format!("stream {name} exists already")),
                    Some(_) if !or_replace => return Err(exists("stream", name.as_str())),
                    Some(_) => self.replace_stream(definition, facts).await?,
                };
                Ok((effect, Vec::new()))
            }
            Statement::CreateView { definition, or_replace, if_not_exists } => {
                let name = &definition.name;
                let mut streams = self.streams.keys().chain(self.kept_streams.keys());
                if streams.any(|stream| stream.as_str() == name.as_str()) {
                    return Err(exists("stream", name.as_str()));
                }
                if self.kept_streams.contains_key(&definition.stream) {
                    return Err(kept_stream(&definition.stream));
                }
                match self.views.contains_key(name) {
                    true if *if_not_exists => {
                        let action = format!("view {name} exists already");
                        Ok((Effect::Nothing(action), Vec::new()))
                    }
                    true if *or_replace => self.build_view(definition).await,
                    true if repeated && self.stands(definition).await? => {
                        Ok((Effect::Nothing(format!("view {name} is as it was")), Vec::new()))
                    }
                    true => Err(exists("view", name.as_str())),
                    false => self.build_view(definition).await,
                }
            }
            Statement::AddColumns { stream, columns, if_exists } => {
                if self.kept_streams.contains_key(stream) {
                    return Err(kept_stream(stream));
                }
                match self.streams.get(stream) {
                    None if *if_exists => Ok((Effect::Nothing(format!("there is no stream {stream}")), Vec::new())),
                    None => Err(missing_stream(stream)),
                    Some(before) => match widened(&before.definition, columns, repeated)? {
                        None => Ok((Effect::Nothing(format!("stream {stream} is as it was")), Vec::new())),
                        Some(definition) => {
                            decode::check(&definition)?;
                            Ok((self.replace_stream(&definition, facts).await?, Vec::new()))
                        }
                    },
                }
            }
            Statement::DropStream { name, if_exists } => {
                if self.kept_streams.contains_key(name) {
                    return Err(kept_stream(name));
                }
                let mut readers: BTreeSet<String> =
                    self.views_of(name).map(|view| format!("`{}`", view.definition.name)).collect();
                // What is not understood may read the stream.
                let kept = self
                    .views
                    .iter()
                    .filter(|(_, view)| view.kept.as_ref().is_some_and(|kept| kept.mentions(name.as_str())));
                readers.extend(kept.map(|(view, _)| format!("`{view}`")));
                if !readers.is_empty() {
                    return Err(Error::DropStreamInUse {
                        stream: name.clone(),
                        views: readers.into_iter().collect::<Vec<_>>().join(", "),
                    });
                }
                let effect = match self.streams.remove(name) {
                    Some(stream) => {
                        self.comments.remove(name.as_str());
                        self.dropped.insert(name.clone(), stream);
                        Effect::Changed(format!("dropped stream {name}; its archive is kept"))
                    }
                    None if *if_exists => Effect::Nothing(format!("there is no stream {name}")),
                    None => return Err(missing_stream(name)),
                };
                Ok((effect, Vec::new()))
            }
            Statement::DropView { name, if_exists } => {
                let effect = match self.views.remove(name) {
                    Some(_) => {
                        self.comments.remove(name.as_str());
                        Effect::Changed(format!("dropped view {name}"))
                    }
                    None if *if_exists => Effect::Nothing(format!("there is no view {name}")),
                    None => return Err(missing_view(name)),
                };
                Ok((effect, Vec::new()))
            }
            Statement::Comment { kind, on, column, text, if_exists } => {
                let comment = self.comment(*kind, on, column.as_deref(), text.as_deref(), *if_exists)?;
                let effect = match comment {
                    (true, action) => Effect::Changed(action),
                    (false, action) => Effect::Nothing(action),
                };
                Ok((effect, Vec::new()))
            }
            Statement::CreateOpenStream(_) => Err(Error::refuse(
                "The stream has no columns",
                "Declare those that you need: (name TYPE, …); `thalweg infer TOPIC` proposes them.",
            )),
            Statement::CopyFrom(_) => Err(Error::refuse(
                "COPY loads rows, and defines nothing",
                "Send COPY on its own to a running server, when the definitions are there.",
            )),
            Statement::Query(sql) => Err(Error::refuse(
                format!("`{}` is a query, not a definition", first_words(sql)),
                "Send queries on their own.",
            )),
        }
    }

    fn create_stream(&mut self, definition: &StreamDefinition, facts: &Facts) -> Result<Effect> {
        let name = &definition.name;
        if facts.archived.contains(name) && self.rest.dropped.contains_key(name.as_str()) {
            return Err(kept_stream(name));
        }
        let (mut origin, mut predecessors) = (Frontier::new(), 0);
        if let Some(before) = self.dropped.remove(name) {
            predecessors = before.predecessors;
            match facts.archived.contains(name) {
                true => {
                    keep_shape(&before.definition, definition)?;
                    origin = before.origin.clone();
                }
                // Nothing that was computed from the old stream holds of the new one.
                false => predecessors += u64::from(!before.origin.is_empty()),
            }
        }
        let action = match origin.is_empty() {
            true => format!("created stream {name}"),
            false => format!("created stream {name} over its archive"),
        };
        let stream = CatalogStream { definition: definition.clone(), origin, predecessors };
        self.streams.insert(name.clone(), Arc::new(stream));
        Ok(Effect::Changed(action))
    }

    async fn replace_stream(&mut self, definition: &StreamDefinition, facts: &Facts) -> Result<Effect> {
        let name = &definition.name;
        let before = &self.streams[name];
        if before.definition.sql == definition.sql {
            return Ok(Effect::Nothing(format!("stream {name} is as it was")));
        }
        let read = self.views_of(name).next().is_some();
        if read || facts.archived.contains(name) || !before.origin.is_empty() {
            keep_shape(&before.definition, definition)?;
        }
        let stream = CatalogStream { definition: definition.clone(), ..CatalogStream::clone(before) };
        self.streams.insert(name.clone(), Arc::new(stream));
        self.recompile(name).await?;
        Ok(Effect::Changed(format!("replaced stream {name}")))
    }

    /// Compiles the views of a replaced stream again. If the id of a served view changes, its states have another
    /// meaning, so the view is built again.
    async fn recompile(&mut self, stream: &StreamName) -> Result<()> {
        for view in self.views.values_mut() {
            let mut moved = None;
            for side in [&mut view.serving, &mut view.building] {
                let Some(old) = side.take_if(|v| v.definition.stream == *stream) else {
                    continue;
                };
                let new = compile_view(old.definition.clone(), &self.streams).await?;
                if new.plan.id() == old.plan.id() {
                    *side = Some(new);
                } else {
                    moved = Some(new);
                    view.kept = None;
                }
            }
            view.building = view.building.take().or(moved);
        }
        Ok(())
    }

    /// True if the newest version of the view's name has the meaning of `definition`.
    async fn stands(&self, definition: &ViewDefinition) -> Result<bool> {
        let Some(view) = self.views.get(&definition.name).filter(|view| view.not_understood().is_none()) else {
            return Ok(false);
        };
        let Some(newest) = view.building.as_ref().or(view.serving.as_ref()) else {
            return Ok(false);
        };
        let given = compile_view(definition.clone(), &self.streams).await?;
        Ok(given.plan.id() == newest.plan.id())
    }

    /// Makes `definition` the view that its name will serve.
    async fn build_view(&mut self, definition: &ViewDefinition) -> Result<(Effect, Vec<String>)> {
        let name = &definition.name;
        let built = compile_view(definition.clone(), &self.streams).await?;
        let warnings = built.plan.warnings();
        let id = built.plan.id();
        let effect = match self.views.get_mut(name) {
            None => {
                let view = CatalogView { building: Some(built), ..CatalogView::default() };
                self.views.insert(name.clone(), view);
                Effect::Changed(format!("created view {name}"))
            }
            Some(view) if view.building.as_ref().is_some_and(|v| v.plan.id() == id) => {
                Effect::Nothing(format!("view {name} is as it was"))
            }
            Some(view) if view.serving.as_ref().is_some_and(|v| v.plan.id() == id) => {
                match (view.building.take(), view.kept.take()) {
                    (None, None) => Effect::Nothing(format!("view {name} is as it was")),
                    _ => Effect::Changed(format!("view {name} stays what it serves")),
                }
            }
            Some(view) => {
                view.building = Some(built);
                view.kept = None;
                Effect::Changed(format!("replaced view {name}; it is served once it is built"))
            }
        };
        Ok((effect, warnings))
    }
}

fn kept_stream(name: &StreamName) -> Error {
    Error::refuse(
        format!(
            "stream `{name}` was defined by a newer version of this program, which this version does not understand"
        ),
        "Change it with the newer version.",
    )
}

fn exists(kind: &'static str, name: &str) -> Error {
    Error::CreateTwice { kind, name: name.to_owned() }
}

pub(super) fn missing_stream(name: &StreamName) -> Error {
    Error::FindDefinition { kind: "stream", name: name.to_string() }
}

fn missing_view(name: &ViewName) -> Error {
    Error::FindDefinition { kind: "view", name: name.to_string() }
}

fn first_words(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().take(4).collect();
    words.join(" ")
}
