//! The durable disk compared with object_store's local store: the same calls leave the same files.

use futures::TryStreamExt;
use object_store::{CopyMode, RenameTargetMode, UpdateVersion};

use super::*;

/// The folders of one test; dropping this value deletes them.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("thalweg-disk-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::AlreadyExists { .. } => "exists",
        Error::NotFound { .. } => "not found",
        Error::NotImplemented { .. } => "not implemented",
        _ => "other",
    }
}

/// The paths and texts of all files in a store.
async fn listing(store: &dyn ObjectStore) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in objects {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        found.push((object.location.to_string(), text));
    }
    found.sort();
    found
}

async fn put(store: &dyn ObjectStore, path: &str, text: &'static str, mode: PutMode) -> Result<()> {
    let result = store.put_opts(&path.into(), text.into(), mode.into()).await?;
    let head = store.head(&path.into()).await?;
    assert_eq!(result.e_tag, head.e_tag, "{path}");
    Ok(())
}

async fn upload(store: &dyn ObjectStore, path: &str, parts: &[&'static str], end: bool) -> Result<()> {
    let mut upload = store.put_multipart(&path.into()).await?;
    for part in parts {
        upload.put_part((*part).into()).await?;
    }
    match end {
        true => upload.complete().await.map(drop),
        false => upload.abort().await,
    }
}

/// Makes a series of calls. Returns the outcome of each call.
async fn calls(store: &dyn ObjectStore) -> Vec<Result<(), &'static str>> {
    let copy = |mode| CopyOptions::new().with_mode(mode);
    let rename = |mode| RenameOptions::new().with_target_mode(mode);
    let (a, b, c) = (Path::from("x/_delta_log/0.json"), Path::from("x/b"), Path::from("y/z/c"));
    let outcomes = vec![
        put(store, a.as_ref(), "one", PutMode::Create).await,
        put(store, a.as_ref(), "two", PutMode::Create).await,
        put(store, b.as_ref(), "three", PutMode::Overwrite).await,
        put(store, b.as_ref(), "four", PutMode::Overwrite).await,
        put(store, b.as_ref(), "", PutMode::Update(UpdateVersion { e_tag: None, version: None })).await,
        put(store, "empty", "", PutMode::Create).await,
        upload(store, "parts", &["ab", "cd"], true).await,
        upload(store, "aborted", &["ab"], false).await,
        store.copy_opts(&a, &c, copy(CopyMode::Create)).await,
        store.copy_opts(&b, &c, copy(CopyMode::Create)).await,
        store.copy_opts(&b, &c, copy(CopyMode::Overwrite)).await,
        store.copy_opts(&"gone".into(), &c, copy(CopyMode::Overwrite)).await,
        store.rename_opts(&b, &"y/renamed".into(), rename(RenameTargetMode::Create)).await,
        store.rename_opts(&a, &c, rename(RenameTargetMode::Create)).await,
        store.rename_opts(&a, &c, rename(RenameTargetMode::Overwrite)).await,
        store.delete(&"empty".into()).await,
        store.get(&"empty".into()).await.map(drop),
    ];
    outcomes.into_iter().map(|o| o.map_err(|e| kind(&e))).collect()
}

#[tokio::test]
async fn every_call_does_what_the_plain_store_does() {
    let scratch = Scratch::new();
    let plain = LocalFileSystem::new_with_prefix(scratch.folder("plain")).unwrap();
    let durable = DurableDisk::open(&scratch.folder("durable")).unwrap();
    let (expect, got) = (calls(&plain).await, calls(&durable).await);
    assert_eq!(got, expect);
    assert!(expect.contains(&Err("exists")));
    assert_eq!(listing(&durable).await, listing(&plain).await);
    let folders = |store: ListResult| store.common_prefixes;
    assert_eq!(
        folders(durable.list_with_delimiter(None).await.unwrap()),
        folders(plain.list_with_delimiter(None).await.unwrap())
    );
}

#[tokio::test]
async fn an_interrupted_write_is_invisible_and_blocks_nothing() {
    let scratch = Scratch::new();
    let folder = scratch.folder("disk");
    std::fs::create_dir_all(folder.join("log")).unwrap();
    std::fs::write(folder.join("log/0.json#1"), "to").unwrap();
    let disk = DurableDisk::open(&folder).unwrap();
    put(&disk, "log/0.json", "torn no more", PutMode::Create).await.unwrap();
    let expect = [("log/0.json".to_owned(), "torn no more".to_owned())];
    assert_eq!(listing(&disk).await, expect);
    let staged = std::fs::read_dir(folder.join("log")).unwrap().count();
    assert_eq!(staged, 2, "the new staged file is gone, the old one is nobody's");
}

#[tokio::test]
async fn one_of_many_creates_wins() {
    let scratch = Scratch::new();
    let disk = Arc::new(DurableDisk::open(&scratch.folder("disk")).unwrap());
    let tries = (0..8).map(|_| {
        let disk = Arc::clone(&disk);
        tokio::spawn(async move { put(disk.as_ref(), "n.json", "x", PutMode::Create).await.is_ok() })
    });
    let won = futures::future::join_all(tries).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
}

#[tokio::test]
async fn folders_are_synced_up_to_the_root_once() {
    let scratch = Scratch::new();
    let root = scratch.folder("disk");
    let disk = DurableDisk::open(&root).unwrap();
    put(&disk, "a/b/c", "x", PutMode::Create).await.unwrap();
    let root = root.canonicalize().unwrap();
    let known = disk.folders.known.lock().clone();
    assert_eq!(known, HashSet::from([root.join("a/b"), root.join("a")]));
}
