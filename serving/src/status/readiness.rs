//! Readiness: whether a load balancer should send queries to this process.
//!
//! A new process is ready once it can answer for everything that the catalog serves. From then on only streams and
//! views count that were ready once: a stream or view created later joins when it first becomes ready, so no CREATE
//! takes a process out of service. Views that are being built for the first time never count. Views that were served
//! with states of another engine count: they are built anew, and a new process cannot answer for them before.
//!
//! A view that has failed counts only if its failure may pass, and a definition that is not understood never counts:
//! one such view must not keep a process from answering for all others, and stays as it is for ever.
//!
//! Invariant: a process that reports ready can answer for all subjects that count at that moment.

use std::collections::HashSet;

use parking_lot::Mutex;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{StreamName, ViewId};

use crate::status::stream::StreamConditions;

/// A subject of readiness: one definition of a stream, or one meaning of a view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Stream(StreamName, String),
    View(ViewId),
}

/// The subjects that were ready at least once since the process started.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    all_once: bool,
    ready: HashSet<Subject>,
}

impl Readiness {
    /// Returns the reasons against readiness. `facts` are all subjects, each with a reason if it cannot be answered.
    pub(crate) fn judge(&self, facts: Vec<(Subject, Option<String>)>) -> Vec<String> {
        let mut seen = self.0.lock();
        let existing: HashSet<&Subject> = facts.iter().map(|(subject, _)| subject).collect();
        seen.ready.retain(|subject| existing.contains(subject));
        let ready = facts.iter().filter(|(_, reason)| reason.is_none());
        let ready: Vec<Subject> = ready.map(|(subject, _)| subject.clone()).collect();
        seen.ready.extend(ready);
        let counts = |subject: &Subject| !seen.all_once || seen.ready.contains(subject);
        let reasons: Vec<String> =
            facts.into_iter().filter(|(subject, _)| counts(subject)).filter_map(|(_, reason)| reason).collect();
        seen.all_once |= reasons.is_empty();
        reasons
    }
}

/// How much is told of a stream that cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Phase,
    /// The reason too, which may name servers and files.
    Reason,
}

/// Returns every stream and every view that counts, each with the reason if it cannot be answered.
pub(crate) fn facts(
    catalog: &Catalog,
    published: &Published,
    stream_conditions: &StreamConditions,
    detail: Detail,
) -> Vec<(Subject, Option<String>)> {
    let streams = catalog.streams.iter().map(|(name, stream)| {
        let standing = stream_conditions.streams.get(name);
        let reason = match standing {
            Some(standing) => standing.not_ready().map(|reason| match detail {
                Detail::Reason => reason,
                Detail::Phase => standing.phase().as_str().to_owned(),
            }),
            None => Some("starting".into()),
        };
        let subject = Subject::Stream(name.clone(), stream.definition.fingerprint());
        (subject, reason.map(|reason| format!("stream `{name}`: {reason}")))
    });
    let views = catalog.views.iter().filter_map(|(name, view)| {
        if view.is_rebuilt_for_engine() {
            let plan = &view.building.as_ref()?.plan;
            let reason = format!("view `{name}`: its states are computed anew for this version of the engine");
            return Some((Subject::View(plan.id().clone()), Some(reason)));
        }
        let plan = &view.serving.as_ref()?.plan;
        let standing = stream_conditions.streams.get(plan.stream());
        let failure = standing.and_then(|s| s.failed.get(plan.id()));
        if failure.is_some_and(|failure| !failure.may_pass()) {
            return None;
        }
        let reason = if !published.versions.contains_key(plan.id()) {
            Some("no batch version is known yet")
        } else if !standing.is_some_and(|s| s.views.contains_key(plan.id())) {
            Some("its realtime state is being rebuilt")
        } else {
            None
        };
        let reason = reason.map(|reason| format!("view `{name}`: {reason}"));
        Some((Subject::View(plan.id().clone()), reason))
    });
    streams.chain(views).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thalweg_schemas::Fault;
    use thalweg_schemas::failure::{FailedStep, ViewFailure};

    use super::*;
    use crate::fixture::{World, at};
    use crate::status::stream::stream_conditions;

    fn fact(name: &str, reason: Option<&str>) -> (Subject, Option<String>) {
        let subject = Subject::View(ViewId::of(&[name]));
        (subject, reason.map(str::to_owned))
    }

    #[test]
    fn a_fresh_process_waits_for_all_and_then_for_what_it_had() {
        let readiness = Readiness::default();
        let judge = |facts: &[(&str, Option<&str>)]| {
            let facts = facts.iter().map(|(name, reason)| fact(name, *reason));
            readiness.judge(facts.collect())
        };
        assert_eq!(judge(&[("a", None), ("b", Some("building b"))]), ["building b"]);
        assert!(judge(&[("a", None), ("b", None)]).is_empty());
        // Created later: the subject does not count before it was ready once.
        assert!(judge(&[("a", None), ("b", None), ("c", Some("new"))]).is_empty());
        assert!(judge(&[("a", None), ("b", None), ("c", None)]).is_empty());
        assert_eq!(judge(&[("a", None), ("c", Some("lost"))]), ["lost"]);
        // Dropped and created again.
        assert!(judge(&[("a", None)]).is_empty());
        assert!(judge(&[("a", None), ("c", Some("new again"))]).is_empty());
    }

    /// What keeps a new process from being ready, with one view of the catalog changed by `change`.
    async fn judged(change: impl FnOnce(&mut Catalog, &mut StreamConditions, &ViewId)) -> Vec<String> {
        let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
        let mut catalog = Catalog::clone(&world.catalog.borrow());
        let mut conditions = stream_conditions(&world.sources).await;
        change(&mut catalog, &mut conditions, &world.view_id("totals"));
        let published = world.published.borrow().clone();
        Readiness::default().judge(facts(&catalog, &published, &conditions, Detail::Reason))
    }

    fn fail(conditions: &mut StreamConditions, id: &ViewId, fault: Fault) {
        let failure = ViewFailure {
            step: FailedStep::Rebuild,
            fault,
            reason: "no".into(),
            expression: None,
            from: at(0, 0),
            to: at(0, 1),
            since_ms: 0,
        };
        for condition in conditions.streams.values_mut() {
            condition.views.remove(id);
            condition.failed.insert(id.clone(), Arc::new(failure.clone()));
        }
    }

    #[tokio::test]
    async fn a_view_that_stays_failed_keeps_no_process_from_answering_for_the_others() {
        assert!(judged(|_, _, _| ()).await.is_empty());
        assert!(judged(|_, conditions, id| fail(conditions, id, Fault::User)).await.is_empty());
        assert!(judged(|_, conditions, id| fail(conditions, id, Fault::Engine)).await.is_empty());
        let passes = judged(|_, conditions, id| fail(conditions, id, Fault::Transient)).await;
        assert_eq!(passes, ["view `totals`: its realtime state is being rebuilt"]);
    }

    #[tokio::test]
    async fn views_of_another_engine_count_and_definitions_of_a_newer_version_do_not() {
        let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
        let conditions = stream_conditions(&world.sources).await;
        let published = world.published.borrow().clone();
        let judged =
            |catalog: &Catalog| Readiness::default().judge(facts(catalog, &published, &conditions, Detail::Reason));
        let id = world.view_id("totals").to_string();
        let catalog = world.edit_catalog(|text| text.replace(&id, &"0".repeat(32))).await;
        assert_eq!(judged(&catalog), ["view `totals`: its states are computed anew for this version of the engine"]);
        let catalog = world.edit_catalog(|text| text.replace("count(DISTINCT device)", "count_tiers(device)")).await;
        assert!(catalog.views.values().any(|view| view.not_understood().is_some()));
        assert!(judged(&catalog).is_empty());
    }

    #[test]
    fn an_empty_catalog_is_ready() {
        assert!(Readiness::default().judge(Vec::new()).is_empty());
    }
}
