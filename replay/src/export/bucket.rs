//! An export in an object store that speaks the protocol of S3. An object is there once it is complete, and the store
//! itself refuses to replace one that must be new (`If-None-Match`).

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use tempfile::NamedTempFile;

use super::https::StoreConnector;

/// How many bytes are uploaded in one request. A store takes 10,000 of them for an object.
const PART_BYTES: usize = 16 << 20;
/// How many of these requests are under way.
const PARTS_MAX: usize = 2;

domain::limit_rows! {
    Memory, "bytes of one part of a file that is uploaded to an object store", Bytes PART_BYTES, "the next part begins", "memory";
    Memory, "such parts on their way", Count PARTS_MAX, "uploading waits", "memory";
}

/// The objects below a prefix of a bucket.
#[derive(Debug, Clone)]
pub struct ExportBucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl ExportBucket {
    /// Prepares access to `s3://BUCKET/PREFIX`, with what the environment says: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on.
    ///
    /// # Errors
    /// When the URL or the environment is wrong.
    pub(super) fn open(url: &str) -> io::Result<Self> {
        let store = AmazonS3Builder::from_env()
            .with_url(url)
            .with_http_connector(StoreConnector)
            .build()
            .map_err(io::Error::other)?;
        let prefix = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, prefix)| prefix);
        Ok(Self { store: Arc::new(store), prefix: Path::parse(prefix).map_err(io::Error::other)? })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    pub(super) async fn is_used(&self) -> io::Result<bool> {
        self.store
            .list(Some(&self.prefix))
            .next()
            .await
            .transpose()
            .map(|found| found.is_some())
            .map_err(io::Error::other)
    }

    pub(super) async fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.file(name).await? else { return Ok(None) };
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Downloads an object into a temporary file.
    pub(super) async fn file(&self, name: &str) -> io::Result<Option<File>> {
        let found = match self.store.get(&self.path(name)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(io::Error::other(error)),
        };
        let mut file = tempfile::tempfile()?;
        let mut parts = found.into_stream();
        while let Some(part) = parts.next().await {
            file.write_all(&part.map_err(io::Error::other)?)?;
        }
        file.rewind()?;
        Ok(Some(file))
    }

    pub(super) async fn create(&self, name: &str, content: Vec<u8>) -> io::Result<bool> {
        match self.store.put_opts(&self.path(name), PutPayload::from(content), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    pub(super) async fn publish(&self, file: NamedTempFile, name: &str) -> io::Result<()> {
        let mut file = file.into_file();
        file.rewind()?;
        let upload = self.store.put_multipart(&self.path(name)).await.map_err(io::Error::other)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        loop {
            upload.wait_for_capacity(PARTS_MAX).await.map_err(io::Error::other)?;
            let mut part = Vec::new();
            if (&mut file).take(PART_BYTES as u64).read_to_end(&mut part)? == 0 {
                break;
            }
            upload.put(Bytes::from(part));
        }
        upload.finish().await.map_err(io::Error::other)?;
        Ok(())
    }
}
