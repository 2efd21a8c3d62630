//! Where an export is: in a folder, or in an object store. Both keep the same promises: a file has its name once it is
//! complete, and of two processes that create a document, one is first.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use super::bucket::ExportBucket;
use super::folder::ExportFolder;

/// What the name of a place in an object store begins with.
const OBJECT_STORE: &str = "s3://";

/// A place for an export.
#[derive(Debug, Clone)]
pub enum ExportStore {
    /// A folder of this machine.
    Folder(ExportFolder),
    /// Objects with a common prefix.
    Bucket(ExportBucket),
}

impl ExportStore {
    /// Opens a folder, or an object store if the place is a URL such as `s3://bucket/log`.
    ///
    /// # Errors
    /// When the folder can't be created, or the environment doesn't say how to reach the store.
    pub fn open(place: &str) -> io::Result<Self> {
        if place.starts_with(OBJECT_STORE) {
            ExportBucket::open(place).map(Self::Bucket)
        } else {
            ExportFolder::open(Path::new(place)).map(Self::Folder)
        }
    }

    /// Whether something is there that is complete.
    pub(super) async fn is_used(&self) -> io::Result<bool> {
        match self {
            Self::Folder(folder) => folder.is_used(),
            Self::Bucket(bucket) => bucket.is_used().await,
        }
    }

    /// The content of a document, if there is one of this name.
    pub(super) async fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(folder) => folder.read(name),
            Self::Bucket(bucket) => bucket.read(name).await,
        }
    }

    /// Opens a file to read, if there is one of this name.
    pub(super) async fn file(&self, name: &str) -> io::Result<Option<File>> {
        match self {
            Self::Folder(folder) => folder.file(name),
            Self::Bucket(bucket) => bucket.file(name).await,
        }
    }

    /// Writes a document, unless there is one of this name. Returns whether there was none.
    pub(super) async fn create(&self, name: &str, content: Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Folder(folder) => folder.create(name, &content),
            Self::Bucket(bucket) => bucket.create(name, content).await,
        }
    }

    /// Begins a file, which has no name yet.
    pub(super) fn begin(&self) -> io::Result<NamedTempFile> {
        match self {
            Self::Folder(folder) => folder.begin(),
            Self::Bucket(_) => NamedTempFile::new(),
        }
    }

    /// Gives a file its name, once it is safe. Replaces one of the same name: it has the same content.
    pub(super) async fn publish(&self, file: NamedTempFile, name: &str) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.to_owned());
                let publishing = tokio::task::spawn_blocking(move || folder.publish(file, &name));
                publishing.await.map_err(io::Error::other)?
            }
            Self::Bucket(bucket) => bucket.publish(file, name).await,
        }
    }
}
