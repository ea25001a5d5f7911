//! A worker of a consumer group: a loop that reads some partitions while others are assigned and revoked.
//!
//! Invariant: the worker reads the script's messages from its assigned positions, nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_kit::positions::set;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::{Frontier, Partition};
use thalweg_speed::{Assigned, AssignmentChange, ConsumerCommand, Ended, Revoked};
use tokio::sync::oneshot;

use super::script::Script;
use super::site::{Run, Site, finish};

pub(crate) struct Worker {
    pub(crate) run: Run,
    /// The position of the worker's consumer.
    pub(crate) at: Frontier,
    pub(crate) assignment: u64,
}

impl Worker {
    /// Starts a worker without partitions.
    pub(crate) async fn idle(site: &Site) -> Self {
        Self { run: site.start_with(BTreeSet::new()).await, at: Frontier::new(), assignment: 0 }
    }

    pub(crate) async fn with(site: &Site, partitions: &[i32]) -> Self {
        let mut worker = Self::idle(site).await;
        worker.assign(site, partitions).await;
        worker
    }

    fn partitions(&self) -> BTreeSet<Partition> {
        self.at.partitions().collect()
    }

    /// Assigns partitions. The worker reads on from the archive's frontier.
    pub(crate) async fn assign(&mut self, site: &Site, partitions: &[i32]) {
        let master = site.archive().await.latest().await.unwrap();
        let catalog = site.world.catalogs.load().await.unwrap();
        let origin = catalog.streams[&site.world.stream].origin.clone();
        let at = master.frontier.or(&origin).within(set(partitions));
        // Amendments go with partition 0.
        let amended = if partitions.contains(&0) { master.frontier.of_amendments() } else { Frontier::new() };
        let assigned = Assigned { at: at.or(&amended), origin, high: at.clone(), master };
        self.run.change(AssignmentChange::Assign(assigned)).await;
        match self.run.command().await {
            ConsumerCommand::Assign(assigned) => assert_eq!(assigned, at),
            other => panic!("{other:?}"),
        }
        self.assignment += 1;
        self.at = at.or(&self.at);
    }

    /// Revokes partitions. The returned receiver is ready once the worker holds no data of them.
    pub(crate) async fn revoke(&mut self, partitions: &[i32]) -> oneshot::Receiver<()> {
        let (done, dropped) = oneshot::channel();
        let lost = Revoked { partitions: set(partitions), done };
        self.run.change(AssignmentChange::Revoke(lost)).await;
        match self.run.command().await {
            ConsumerCommand::Unassign(unassigned) => assert_eq!(unassigned, set(partitions)),
            other => panic!("{other:?}"),
        }
        self.assignment += 1;
        self.at.remove(&set(partitions));
        dropped
    }

    /// Drains all produced messages of the worker's partitions.
    pub(crate) async fn read(&mut self, script: &Script) {
        let to = script.frontier().within(self.partitions());
        let drained = script.drained(&self.at, &to, self.assignment);
        self.run.feed(drained).await;
        self.at = to.clone();
        let here = |s: &StreamSnapshot| s.frontier.of_topic() == to;
        self.run.until("all that was read", here).await;
    }

    /// Waits until readers can tile all of the worker's partitions from the published cut.
    pub(crate) async fn takes_up(&mut self, site: &Site) {
        let cut = site.cut();
        let id = site.view.plan.id().clone();
        let mine = self.partitions();
        let tiles = |s: &StreamSnapshot| {
            let cut = cut.within(s.frontier.partitions());
            let all: BTreeSet<Partition> = s.frontier.of_topic().partitions().collect();
            let held = s.views.get(&id);
            all == mine && held.is_some_and(|held| tile(&id, held, &cut, &s.frontier).is_ok())
        };
        self.run.until("all partitions to be held", tiles).await;
    }

    /// Checks the snapshot's data of `partitions` against the produced messages: the view from the published cut, the
    /// rows from the archive.
    pub(crate) async fn check_some(&self, site: &Site, script: &Script, partitions: &[i32]) {
        let snapshot = self.run.snapshot();
        let plan = &site.view.plan;
        let here = |f: &Frontier| f.within(set(partitions));
        let (from, to) = (here(&site.cut()), here(&snapshot.frontier));
        let tiles = tile(plan.id(), &snapshot.views[plan.id()], &from, &to).unwrap();
        let got = finish(&site.view, &tiles).await;
        assert_eq!(got, script.answer(&from, &to), "from {from} to {to}");
        for partition in set(partitions) {
            check_rows(site, script, &snapshot, partition);
        }
    }

    /// Runs [`Worker::check_some`] for all partitions of the worker, and checks that it holds no others.
    pub(crate) async fn check(&self, site: &Site, script: &Script) {
        let mine: Vec<i32> = self.at.partitions().map(|p| p.0).collect();
        self.check_some(site, script, &mine).await;
        let snapshot = self.run.snapshot();
        let names = |f: &Frontier| f.partitions().collect::<BTreeSet<_>>();
        assert_eq!(names(&snapshot.frontier.of_topic()), self.partitions());
        let amended = !snapshot.frontier.of_amendments().is_empty();
        assert!(!amended || self.partitions().contains(&Partition(0)));
        let all = names(&snapshot.frontier);
        assert!(all.is_superset(&snapshot.health.keys().copied().collect()));
        assert!(all.is_superset(&snapshot.caught_up_partitions));
        for held in snapshot.views.values() {
            assert!(all.is_superset(&held.partitions.keys().copied().collect()));
        }
        for chunk in &snapshot.rows {
            assert!(self.partitions().is_superset(&names(&chunk.to)), "{}", chunk.to);
        }
    }

    /// Ends the worker. All of its data is then archived under a mark.
    pub(crate) async fn end(self, site: &Site) {
        let at = self.at.clone();
        self.run.cancel();
        let ended = self.run.ended().await.unwrap();
        assert!(matches!(ended, Ended::ShutDown), "{ended:?}");
        let master = site.archive().await.latest().await.unwrap();
        assert_eq!(master.frontier.within(at.partitions()), at);
        assert_eq!(master.mark.within(at.partitions()), at);
    }
}

/// Checks the chunks of a partition: their ranges are contiguous from the archive's frontier or below up to the
/// snapshot's frontier, and they hold all rows.
fn check_rows(site: &Site, script: &Script, snapshot: &Arc<StreamSnapshot>, p: Partition) {
    let to = snapshot.frontier.get(p);
    let archived = snapshot.master.frontier.or(&site.world.origin).get(p);
    let named = snapshot.rows.iter().filter(|c| c.to.named(p).is_some());
    let mut ranges = named.map(|c| (c.from.get(p), c.to.get(p)));
    let ends = ranges.next();
    let ends = ends.map(|first| {
        ranges.fold(first, |(start, at), (from, to)| {
            assert_eq!(at, from, "rows of partition {p} leave a gap");
            (start, to)
        })
    });
    let (start, end) = ends.unwrap_or((to, to));
    assert!(start <= archived, "partition {p}: rows from {start}, archived {archived}");
    assert_eq!(end, to, "partition {p}");
    let of = |offset| [(p, offset)].into_iter().collect::<Frontier>();
    let batches = snapshot.rows.iter().flat_map(|chunk| &chunk.batches);
    let rows: usize = batches
        .map(|batch| {
            let column = batch.column_by_name("_partition").unwrap();
            let column = column.as_any().downcast_ref::<arrow::array::Int32Array>();
            column.unwrap().values().iter().filter(|v| **v == p.0).count()
        })
        .sum();
    assert_eq!(rows, script.events(&of(start), &of(to)), "partition {p}: {start}..{to}");
}
