//! The warehouse: one folder on a disk or in an object store that holds the catalog, the master datasets and the
//! batch views.
//!
//! Invariant: every path in this program is relative to the warehouse's root, so the same layout works anywhere.
//!
//! Layout: `catalog/NNNNNNNN.json`, `streams/<stream>/` and `views/<view id>/` (Delta tables),
//! `leases/<view id>/NNNNNNNN.json`, `dashboards/<name>/NNNNNNNN.json`, and `early-run`, which a worker overwrites to
//! request a run.

mod local;
pub mod versions;

pub mod claims;
pub mod parquet;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::SpawnedReqwestConnector;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use tokio::runtime::Handle;
use url::Url;

use crate::error::nearest::nearest;
use crate::{Error, Partition, Result, StreamName, ViewId};

/// The longest time of one request to an object store; a longer request is aborted and retried. The option `timeout`
/// overrides this value.
const REQUEST_TIMEOUT: &str = "10s";
/// How long a request is retried. After that the caller gets the error.
const RETRY: Duration = Duration::from_secs(60);

/// Whether writes to a local disk are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// The bytes are on the disk when a write returns.
    Always,
    /// The operating system decides when the bytes reach the disk: a power failure may lose acknowledged commits.
    Never,
}

/// An opened warehouse; cheap to clone.
#[derive(Debug, Clone)]
pub struct Warehouse {
    url: Url,
    store: Arc<dyn ObjectStore>,
}

impl Warehouse {
    /// [`Warehouse::open_with`] with [`Fsync::Always`].
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        Self::open_with(url, options, Fsync::Always)
    }

    /// Opens `url`: `file:///path`, a plain path, or `s3://bucket/prefix`. The keys of `options` are those of
    /// object_store (`aws_endpoint`, `aws_access_key_id`, `timeout`, …). A local folder is created if it is missing.
    ///
    /// Errors: [`Error::OpenWarehouse`], [`Error::OpenFolder`].
    pub fn open_with(url: &str, options: &BTreeMap<String, String>, fsync: Fsync) -> Result<Self> {
        let fail = |reason: String| Error::OpenWarehouse { url: url.to_owned(), reason };
        let unusable = |reason: String| Error::OpenFolder { url: url.to_owned(), reason };
        options.keys().try_for_each(|key| check_option(key)).map_err(fail)?;
        let parsed = match Url::parse(url) {
            Ok(parsed) if parsed.scheme().len() > 1 => parsed,
            _ => {
                let path = std::path::absolute(url).map_err(|e| fail(e.to_string()))?;
                Url::from_directory_path(&path).map_err(|()| fail("it is neither a URL nor a path".into()))?
            }
        };
        let store: Arc<dyn ObjectStore> = match parsed.scheme() {
            "file" => {
                let path =
                    parsed.to_file_path().map_err(|()| fail("a file URL has three slashes: file:///path".into()))?;
                std::fs::create_dir_all(&path).map_err(|e| unusable(format!("the folder cannot be created: {e}")))?;
                check_writable(&path).map_err(unusable)?;
                match fsync {
                    Fsync::Always => Arc::new(local::DurableDisk::open(&path).map_err(|e| fail(e.to_string()))?),
                    Fsync::Never => Arc::new(LocalFileSystem::new_with_prefix(&path).map_err(|e| fail(e.to_string()))?),
                }
            }
            "s3" | "s3a" => {
                open_s3(&parsed, settings_of_aws().chain(options.clone())).map_err(|e| fail(e.to_string()))?
            }
            other => {
                return Err(fail(format!("`{other}` is not supported; use file:// or s3://")));
            }
        };
        Ok(Self { url: parsed, store })
    }

    /// Opens the bucket of an `s3://` URL, whose path is not looked at, with the options of [`Self::open_with`].
    ///
    /// Errors: [`Error::OpenWarehouse`].
    pub fn open_bucket(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
        let fail = |reason: String| Error::OpenWarehouse { url: url.to_string(), reason };
        options.keys().try_for_each(|key| check_option(key)).map_err(fail)?;
        if !matches!(url.scheme(), "s3" | "s3a") {
            return Err(fail(format!("`{}` is not supported; use file:// or s3://", url.scheme())));
        }
        let mut bucket = url.clone();
        bucket.set_path("");
        open_s3(&bucket, settings_of_aws().chain(options.clone())).map_err(|e| fail(e.to_string()))
    }

    /// A warehouse on a store that the caller has opened. Tests pass a store that fails.
    pub fn over(url: Url, store: Arc<dyn ObjectStore>) -> Self {
        Self { url, store }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store; its root is the warehouse's root.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The URL under which sessions find the warehouse's store.
    pub fn store_url() -> ObjectStoreUrl {
        ObjectStoreUrl::parse("thalweg://warehouse").expect("a constant, valid URL")
    }

    /// Registers the store in `env`, so that plans executed there can read the warehouse's files.
    pub fn register(&self, env: &RuntimeEnv) {
        env.register_object_store(Self::store_url().as_ref(), self.store());
    }

    /// The folder of a stream's master dataset.
    pub fn master_path(stream: &StreamName) -> Path {
        Path::from_iter(["streams", stream.as_str()])
    }

    /// The folder of a view's batch states.
    pub fn view_path(view: &ViewId) -> Path {
        Path::from_iter(["views", view.as_str()])
    }

    /// The folder of a view's leases: numbered files that name the process that computes the view.
    pub fn lease_path(view: &ViewId) -> Path {
        Path::from_iter(["leases", view.as_str()])
    }

    /// The folder of the leases of a stream's amendments.
    pub fn amendments_lease_path(stream: &StreamName, partition: Partition) -> Path {
        Path::from_iter(["leases".to_owned(), format!("{stream}.{partition}")])
    }

    /// The folder of the failures of runs, with one object per view.
    pub fn failures_path() -> Path {
        Path::from("failures")
    }

    /// The object that tells why a view's newest run failed.
    pub fn failure_path(view: &ViewId) -> Path {
        Path::from_iter(["failures", view.as_str()])
    }

    /// The object that a worker writes to request an early run.
    pub fn early_path() -> Path {
        Path::from("early-run")
    }

    /// The folder of all dashboards.
    pub fn dashboards_path() -> Path {
        Path::from("dashboards")
    }

    /// The folder of a dashboard's numbered files.
    pub fn dashboard_path(name: &str) -> Path {
        Path::from_iter(["dashboards", name])
    }

    /// The folder of the catalog's numbered files.
    pub fn catalog_path() -> Path {
        Path::from("catalog")
    }
}

/// The store of an `s3://bucket/prefix`; its root is the prefix. Options that S3 does not know are ignored.
/// What the environment says, as it says it to all tools of AWS.
fn settings_of_aws() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(k, _)| k.starts_with("AWS_")).map(|(k, v)| (k.to_ascii_lowercase(), v))
}

fn open_s3(url: &Url, options: impl Iterator<Item = (String, String)>) -> object_store::Result<Arc<dyn ObjectStore>> {
    let (_, prefix) = ObjectStoreScheme::parse(url)?;
    let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let mut builder = AmazonS3Builder::new()
        .with_url(url.to_string())
        .with_config(timeout, REQUEST_TIMEOUT)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: usize::MAX,
            retry_timeout: RETRY,
        });
    for (key, value) in options {
        if let Ok(key) = key.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    // Connections are shared by all threads that read. On the threads of a query that does not yield, they would stand
    // still for everybody.
    if let Ok(here) = Handle::try_current() {
        builder = builder.with_http_connector(SpawnedReqwestConnector::new(here));
    }
    Ok(Arc::new(PrefixStore::new(builder.build()?, prefix)))
}

/// Options of the object store by their usual names, for "did you mean".
const OPTIONS: [&str; 22] = [
    "aws_access_key_id",
    "aws_allow_http",
    "aws_bucket_name",
    "aws_checksum_algorithm",
    "aws_conditional_put",
    "aws_container_credentials_full_uri",
    "aws_container_credentials_relative_uri",
    "aws_endpoint",
    "aws_imdsv1_fallback",
    "aws_metadata_endpoint",
    "aws_region",
    "aws_role_arn",
    "aws_role_session_name",
    "aws_secret_access_key",
    "aws_server_side_encryption",
    "aws_session_token",
    "aws_skip_signature",
    "aws_sse_kms_key_id",
    "aws_virtual_hosted_style_request",
    "aws_web_identity_token_file",
    "connect_timeout",
    "timeout",
];

/// Errors: why the object store has no such option.
fn check_option(key: &str) -> Result<(), String> {
    if key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().is_ok() {
        return Ok(());
    }
    let prefixed = format!("aws_{key}");
    match nearest(key, OPTIONS).or_else(|| nearest(&prefixed, OPTIONS)) {
        Some(near) => Err(format!("[storage] has no option `{key}`; did you mean `{near}`?")),
        None => {
            Err(format!("[storage] has no option `{key}`; options are those of object_store, such as aws_endpoint"))
        }
    }
}

/// Tries to create a file. Missing permission and a read-only file system are refused. Other errors are not, since a
/// full disk may have space later.
fn check_writable(folder: &std::path::Path) -> Result<(), String> {
    let probe = folder.join(format!(".thalweg-{}", std::process::id()));
    match std::fs::File::create(&probe) {
        Ok(_) => {
            // Ignored: another `open` in this process may have removed the file.
            let _ = std::fs::remove_file(&probe);
            Ok(())
        }
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            Err(format!("the folder cannot be written: {e}"))
        }
        Err(_) => Ok(()),
    }
}
