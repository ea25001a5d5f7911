//! The warehouse: one folder on a disk or in an object store that holds the catalog, the master datasets and the
//! batch views.
//!
//! Invariant: every path in this program is relative to the warehouse's root, so the same layout works anywhere.
//!
//! Layout: `catalog/NNNNNNNN.json`, `streams/<stream>/` and `views/<view id>/` (Delta tables),
//! `leases/<view id>/NNNNNNNN.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::{Error, Result, StreamName, ViewId};

/// An opened warehouse; cheap to clone.
#[derive(Debug, Clone)]
pub struct Warehouse {
    url: Url,
    store: Arc<dyn ObjectStore>,
}

impl Warehouse {
    /// Opens `url`: `file:///path`, a plain path, or `s3://bucket/prefix`. `options` are object_store's own keys
    /// (`aws_endpoint`, `aws_access_key_id`, …). A local folder is created.
    ///
    /// Errors: [`Error::OpenWarehouse`].
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let fail = |reason: String| Error::OpenWarehouse {
            url: url.to_owned(),
            reason,
        };
        let parsed = match Url::parse(url) {
            Ok(parsed) if parsed.scheme().len() > 1 => parsed,
            _ => {
                let path = std::path::absolute(url).map_err(|e| fail(e.to_string()))?;
                Url::from_directory_path(&path)
                    .map_err(|()| fail("it is neither a URL nor a path".into()))?
            }
        };
        let store: Arc<dyn ObjectStore> = match parsed.scheme() {
            "file" => {
                let path = parsed
                    .to_file_path()
                    .map_err(|()| fail("a file URL has three slashes: file:///path".into()))?;
                std::fs::create_dir_all(&path)
                    .map_err(|e| fail(format!("the folder cannot be created: {e}")))?;
                let local = object_store::local::LocalFileSystem::new_with_prefix(&path)
                    .map_err(|e| fail(e.to_string()))?;
                Arc::new(local)
            }
            "s3" | "s3a" => {
                let (store, prefix) = object_store::parse_url_opts(
                    &parsed,
                    std::env::vars()
                        .filter(|(k, _)| k.starts_with("AWS_"))
                        .map(|(k, v)| (k.to_ascii_lowercase(), v))
                        .chain(options.clone()),
                )
                .map_err(|e| fail(e.to_string()))?;
                Arc::new(PrefixStore::new(store, prefix))
            }
            other => {
                return Err(fail(format!(
                    "`{other}` is not supported; use file:// or s3://"
                )));
            }
        };
        Ok(Self { url: parsed, store })
    }

    /// A warehouse on a store that the caller has opened (or wraps to make it fail).
    pub fn over(url: Url, store: Arc<dyn ObjectStore>) -> Self {
        Self { url, store }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store, rooted at the warehouse.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The name under which sessions know the warehouse's store.
    pub fn store_url() -> ObjectStoreUrl {
        ObjectStoreUrl::parse("thalweg://warehouse").expect("a constant, valid URL")
    }

    /// Lets plans run in `env` read the warehouse's files.
    pub fn register(&self, env: &RuntimeEnv) {
        env.register_object_store(Self::store_url().as_ref(), self.store());
    }

    /// Folder of a stream's master dataset.
    pub fn master_path(stream: &StreamName) -> Path {
        Path::from_iter(["streams", stream.as_str()])
    }

    /// Folder of a view's batch states.
    pub fn view_path(view: &ViewId) -> Path {
        Path::from_iter(["views", view.as_str()])
    }

    /// Folder of the numbered files that say who computes a view.
    pub fn lease_path(view: &ViewId) -> Path {
        Path::from_iter(["leases", view.as_str()])
    }

    /// Folder of the catalog's numbered files.
    pub fn catalog_path() -> Path {
        Path::from("catalog")
    }
}
