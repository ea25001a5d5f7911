//! The configuration of each layer, made from the settings.
//!
//! Invariant: a layer gets the same configuration in every role.

use thalweg_batch::BatchConfig;
use thalweg_schemas::clock::WallClock;
use thalweg_serving::{Access, HttpLimits, ServingConfig};
use thalweg_speed::{Assignment, SpeedConfig};

use super::Settings;
use crate::allocator;

impl Settings {
    pub(crate) fn speed(&self, assignment: Assignment) -> SpeedConfig {
        SpeedConfig {
            assignment,
            kafka: self.connections(),
            micro_batch_rows: self.micro_batch_rows,
            micro_batch_wait: self.micro_batch_wait,
            epoch_bytes: self.epoch_bytes,
            epoch_interval: self.epoch_interval,
            mark_interval: self.mark_interval,
            memory_budget: self.memory_budget,
            grace: self.grace,
            spill: Some(self.spill_dir()),
            ..SpeedConfig::default()
        }
    }

    /// Returns the assignment of a worker that replicas reach at `advertise`.
    pub(crate) fn assignment(&self, advertise: String) -> Assignment {
        match &self.partitions {
            Some(partitions) => Assignment::Static(partitions.clone()),
            None => self.group(advertise),
        }
    }

    /// Returns the consumer groups by which workers share the streams, for a worker that replicas reach at
    /// `advertise`.
    pub(crate) fn group(&self, advertise: String) -> Assignment {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Assignment::Group { id: given(&self.group_id), instance: given(&self.group_instance), advertise }
    }

    /// Returns the configuration of recomputations, both scheduled and in `thalweg batch run`.
    pub(crate) fn batch(&self) -> BatchConfig {
        BatchConfig {
            interval: self.batch_interval,
            memory: self.batch_memory,
            spill: self.spill_dir(),
            compact_files: self.compact_files,
            target_partitions: self.batch_threads,
            grace: self.file_grace,
            clock: WallClock::System,
        }
    }

    /// Returns the limits of connections and requests over HTTP.
    pub(crate) fn http_limits(&self) -> HttpLimits {
        HttpLimits { connections: self.http_connections, client_within: self.http_timeout }
    }

    pub(crate) fn serving(&self, access: Access) -> ServingConfig {
        ServingConfig {
            access,
            http: self.http_limits(),
            max_calls: self.max_calls,
            max_listeners: self.max_listeners,
            rollups: self.rollups,
            kept_answers: self.kept_answers,
            query_timeout: self.query_timeout,
            query_memory: self.query_memory,
            all_queries_memory: self.all_queries_memory,
            reclaim: allocator::give_back,
            max_queries: self.max_queries,
            max_light_queries: self.max_light_queries,
            max_lost_queries: self.max_lost_queries,
            max_join_pairs: self.max_join_pairs as u64,
            target_partitions: self.query_threads,
            spill: Some(self.spill_dir()),
            ..ServingConfig::default()
        }
    }
}
