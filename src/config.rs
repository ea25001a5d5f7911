//! Settings: the embedded defaults, overridden by a file, then by the environment, then by flags.
//!
//! Invariant: `thalweg.toml` beside this file names every key; any other key is refused in every layer.

mod access;
mod layers;
mod roles;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};
use thalweg_schemas::Partition;
use thalweg_schemas::error::nearest::nearest;
use thalweg_schemas::warehouse::{Fsync, Warehouse};
use thalweg_serving::{ShownSetting, WorkersAt};
use toml::{Table, Value};

pub(crate) use self::roles::{Cluster, advertised, parse_partitions, parse_workers};

/// The default settings file, which documents every key.
pub(crate) const DEFAULTS: &str = include_str!("thalweg.toml");

/// The settings file that is read from the current folder if it exists.
const FILE: &str = "thalweg.toml";
const PREFIX: &str = "THALWEG_";
/// Variables of commands that are not settings of the platform.
const NOT_SETTINGS: [&str; 3] = ["THALWEG_CONFIG", "THALWEG_URL", "THALWEG_TOKEN"];

/// Every setting, resolved. The fields are documented in `thalweg.toml`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    data_dir: PathBuf,
    warehouse: String,
    #[serde(deserialize_with = "switch")]
    fsync: bool,
    pub(crate) http_addr: SocketAddr,
    #[serde(deserialize_with = "optional_address")]
    pub(crate) postgres_addr: Option<SocketAddr>,
    #[serde(deserialize_with = "optional_address")]
    pub(crate) flight_sql_addr: Option<SocketAddr>,
    #[serde(deserialize_with = "access::written")]
    http_token: String,
    #[serde(deserialize_with = "access::written")]
    http_admin_token: String,
    #[serde(deserialize_with = "switch")]
    pub(crate) http_open: bool,
    #[serde(deserialize_with = "access::names")]
    http_hosts: Vec<String>,
    #[serde(deserialize_with = "access::names")]
    http_origins: Vec<String>,
    #[serde(deserialize_with = "switch")]
    metrics_open: bool,
    #[serde(deserialize_with = "switch")]
    pub(crate) replica_definitions: bool,
    #[serde(deserialize_with = "count")]
    pub(crate) http_connections: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) http_timeout: Duration,
    #[serde(deserialize_with = "count")]
    pub(crate) max_calls: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) max_listeners: usize,
    #[serde(deserialize_with = "switch")]
    pub(crate) rollups: bool,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    #[serde(deserialize_with = "count")]
    pub(crate) micro_batch_rows: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) micro_batch_wait: Duration,
    #[serde(deserialize_with = "size")]
    pub(crate) epoch_bytes: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) epoch_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) mark_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) grace: Duration,
    #[serde(deserialize_with = "size")]
    pub(crate) memory_budget: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) batch_interval: Duration,
    #[serde(deserialize_with = "size")]
    pub(crate) batch_memory: usize,
    spill_dir: PathBuf,
    #[serde(deserialize_with = "threads")]
    pub(crate) batch_threads: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) compact_files: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) file_grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) query_timeout: Duration,
    #[serde(deserialize_with = "size")]
    pub(crate) query_memory: usize,
    #[serde(deserialize_with = "threads")]
    pub(crate) query_threads: usize,
    #[serde(deserialize_with = "size")]
    pub(crate) all_queries_memory: usize,
    #[serde(deserialize_with = "size")]
    pub(crate) kept_answers: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) max_queries: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) max_light_queries: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) max_lost_queries: usize,
    #[serde(deserialize_with = "count")]
    pub(crate) max_join_pairs: usize,
    #[serde(deserialize_with = "duration")]
    pub(crate) shutdown_timeout: Duration,
    pub(crate) flight_addr: SocketAddr,
    pub(crate) flight_advertise: String,
    #[serde(deserialize_with = "roles::workers")]
    pub(crate) workers: WorkersAt,
    #[serde(deserialize_with = "access::written")]
    cluster_token: String,
    tls_cert: PathBuf,
    tls_key: PathBuf,
    tls_ca: PathBuf,
    pub(crate) group_id: String,
    pub(crate) group_instance: String,
    #[serde(deserialize_with = "roles::partitions")]
    pub(crate) partitions: Option<BTreeSet<Partition>>,
    #[serde(deserialize_with = "access::kafka")]
    pub(crate) kafka: BTreeMap<String, String>,
    #[serde(deserialize_with = "access::connections")]
    connection: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(deserialize_with = "dotted")]
    storage: BTreeMap<String, String>,
    /// The settings as clients may see them.
    #[serde(skip)]
    pub(crate) shown: Vec<ShownSetting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Names no value: many are secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the layers of this process: `defaults` over the embedded defaults, `file` or else `thalweg.toml` in the
    /// current folder, the environment, then `flags`.
    ///
    /// Errors name the layer and the key.
    pub(crate) fn load(defaults: Table, file: Option<&Path>, flags: Table) -> Result<Self> {
        let mut layers = vec![("the command's own defaults".to_owned(), defaults)];
        let named = file.or_else(|| Path::new(FILE).exists().then(|| Path::new(FILE)));
        if let Some(path) = named {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("the settings file {} cannot be read", path.display()))?;
            let table =
                text.parse().map_err(|e| anyhow!("the settings file {}: {}", path.display(), unread(&text, &e)))?;
            layers.push((format!("the settings file {}", path.display()), table));
        }
        layers.push(("the environment".to_owned(), environment(std::env::vars())?));
        layers.push(("the flags".to_owned(), flags));
        resolve(layers)
    }

    /// Returns settings without any file, variable or flag: `table` over the defaults.
    ///
    /// Errors name the key.
    pub fn from_table(table: Table) -> Result<Self> {
        resolve(vec![("the table".to_owned(), table)])
    }

    /// A token by which this process can ask itself, as written.
    pub(crate) fn own_token(&self) -> Option<String> {
        [&self.http_token, &self.http_admin_token].into_iter().find(|token| !token.is_empty()).cloned()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn spill_dir(&self) -> PathBuf {
        match self.spill_dir.as_os_str().is_empty() {
            true => self.data_dir.join("spill"),
            false => self.spill_dir.clone(),
        }
    }

    /// Returns the settings of Arrow Flight.
    ///
    /// Errors: the token cannot be looked up.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        Ok(Cluster {
            token: access::secret("cluster_token", &self.cluster_token)?.unwrap_or_default(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_ca: self.tls_ca.clone(),
        })
    }

    /// The options of the object store.
    pub(crate) fn storage(&self) -> BTreeMap<String, String> {
        self.storage.clone()
    }

    /// Opens the warehouse; a local warehouse is created if missing.
    pub(crate) fn open_warehouse(&self) -> Result<Warehouse> {
        let url = match self.warehouse.as_str() {
            "" => self.data_dir.join("warehouse").to_string_lossy().into_owned(),
            url => url.to_owned(),
        };
        let fsync = match self.fsync {
            true => Fsync::Always,
            false => Fsync::Never,
        };
        Ok(Warehouse::open_with(&url, &self.storage, fsync)?)
    }
}

/// Returns the reason and the line number of an error in a file. The error's own text repeats the line, which may hold
/// a secret.
fn unread(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("line {line}: {}", error.message().trim().replace('\n', " "))
}

/// Merges `layers` over the defaults, with a check after each layer so that an error can name it.
fn resolve(layers: Vec<(String, Table)>) -> Result<Settings> {
    let mut table: Table = DEFAULTS.parse().context("the embedded thalweg.toml")?;
    let mut settings = Settings::deserialize(table.clone()).context("the embedded thalweg.toml")?;
    let mut sources = BTreeMap::new();
    for (name, layer) in layers {
        refuse_unknown(&name, &table, &layer)?;
        for (key, value) in layer {
            if value.as_table().is_none_or(|values| !values.is_empty()) {
                sources.insert(key.clone(), name.clone());
            }
            match (table.get_mut(&key), value) {
                (Some(Value::Table(below)), Value::Table(above)) => below.extend(flatten(above)),
                (_, value) => drop(table.insert(key, value)),
            }
        }
        settings = Settings::deserialize(table.clone())
            .map_err(|e| anyhow!("{name}: {}", e.to_string().trim().replace('\n', " ")))?;
    }
    settings.shown = shown::shown(&table, &sources);
    Ok(settings)
}

fn refuse_unknown(layer: &str, known: &Table, given: &Table) -> Result<()> {
    let Some(key) = given.keys().find(|key| !known.contains_key(*key)) else {
        return Ok(());
    };
    let contains = |k: &&String| k.contains(key.as_str()) || key.contains(k.as_str());
    let near = nearest(key, known.keys().map(String::as_str)).or_else(|| {
        let longest = known.keys().filter(contains).max_by_key(|k| k.len());
        longest.map(String::as_str)
    });
    match near {
        Some(near) => bail!("{layer}: `{key}` is not a setting; did you mean `{near}`?"),
        None => bail!("{layer}: `{key}` is not a setting; `thalweg config` lists them all"),
    }
}

/// Returns the layer of `THALWEG_…` variables.
fn environment(variables: impl Iterator<Item = (String, String)>) -> Result<Table> {
    let mut layer = Table::new();
    let mut maps = [("kafka", ".", Table::new()), ("connection", ".", Table::new()), ("storage", "_", Table::new())];
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let key = key.to_lowercase();
        let map = maps
            .iter_mut()
            .find_map(|(map, dot, table)| Some((key.strip_prefix(*map)?.strip_prefix('_')?, *dot, table)));
        match map {
            Some((inner, dot, table)) => table.insert(inner.replace('_', dot), value.into()),
            None => layer.insert(key, value.into()),
        };
    }
    for (name, _, table) in maps {
        layer.insert(name.to_owned(), table.into());
    }
    Ok(layer)
}

/// TOML reads `a.b = 1` as nested tables; librdkafka's properties have dots in their names.
fn flatten(table: Table) -> Table {
    let mut flat = Table::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                flat.extend(flatten(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            value => drop(flat.insert(key, value)),
        }
    }
    flat
}

fn dotted<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let table = Table::deserialize(from)?;
    flatten(table)
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok((key, value.to_string())),
            _ => Err(de::Error::custom(format!("`{key}` must be a string or a number"))),
        })
        .collect()
}

/// Parses "60s", "1m 30s"; not zero.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a duration above zero is needed".to_owned()),
        Ok(duration) => Ok(duration),
        Err(e) => Err(format!("`{text}` is not a duration ({e}); write 250ms, 60s, 10m or 2h")),
    }
}

/// Parses "64MiB", "1GB", "4096"; not zero.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    match ByteSize::from_str(text).map(|size| usize::try_from(size.as_u64())) {
        Ok(Ok(0)) => Err("a size above zero is needed".to_owned()),
        Ok(Ok(bytes)) => Ok(bytes),
        _ => Err(format!("`{text}` is not a size; write 64MiB, 1GiB or a number of bytes")),
    }
}

/// Parses a whole number.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number"))
}

/// Reads a value as text: files may contain plain numbers, the environment only texts.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        value @ Value::Integer(_) => Ok(value.to_string()),
        other => Err(de::Error::custom(format!("`{other}` is neither a string nor a number"))),
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&text(from)?).map_err(de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    parse_size(&text(from)?).map_err(de::Error::custom)
}

fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match parse_count(&text(from)?) {
        Ok(0) => Err(de::Error::custom("a number above zero is needed")),
        other => other.map_err(de::Error::custom),
    }
}

/// Parses "127.0.0.1:8644"; nothing means that the port is not opened.
pub(crate) fn parse_optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!("`{text}` is not an address; write 127.0.0.1:8644, or nothing to leave the port closed")
        }),
    }
}

fn optional_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    parse_optional_address(&text(from)?).map_err(de::Error::custom)
}

/// Reads a boolean; the environment contains only texts.
fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match Value::deserialize(from)? {
        Value::Boolean(on) => Ok(on),
        Value::String(text) => {
            text.parse().map_err(|_| de::Error::custom(format!("`{text}` is neither true nor false")))
        }
        other => Err(de::Error::custom(format!("`{other}` is neither true nor false"))),
    }
}

/// Reads a number of threads; 0 means one per core.
fn threads<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match parse_count(&text(from)?).map_err(de::Error::custom)? {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests;
