//! The temporary file of what doesn't stay in memory, in blocks that are compressed with lz4.
//!
//! The file has no name, so nothing needs to delete it: the system does when the process ends, also after a crash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the temporary file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the temporary file in {}: {source}; set TMPDIR to a folder with more space, or of another disk", folder.display())]
pub struct SpillError {
    folder: PathBuf,
    source: io::Error,
}

/// Where a block is in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    offset: u64,
    length: usize,
}

/// Appends blocks to a temporary file.
#[derive(Debug)]
pub(crate) struct SpillFile {
    folder: PathBuf,
    /// None before the first block.
    file: Option<Arc<File>>,
    end: u64,
}

/// Reads the blocks of a temporary file.
#[derive(Debug, Clone)]
pub(crate) struct SpillReader {
    folder: PathBuf,
    file: Option<Arc<File>>,
}

impl SpillFile {
    /// Prepares a file in this folder. The first block creates it.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, end: 0 }
    }

    /// Appends a block.
    pub(crate) fn append(&mut self, block: &[u8]) -> Result<Extent, SpillError> {
        let compressed = lz4_flex::compress_prepend_size(block);
        let extent = Extent { offset: self.end, length: compressed.len() };
        let file = match &self.file {
            Some(file) => file,
            None => {
                let created = tempfile::tempfile_in(&self.folder).map_err(|source| self.error(source))?;
                self.file.insert(Arc::new(created))
            }
        };
        file.write_all_at(&compressed, extent.offset).map_err(|source| self.error(source))?;
        self.end += compressed.len() as u64;
        Ok(extent)
    }

    /// A reader of all blocks that are appended so far.
    pub(crate) fn reader(&self) -> SpillReader {
        SpillReader { folder: self.folder.clone(), file: self.file.clone() }
    }

    fn error(&self, source: io::Error) -> SpillError {
        SpillError { folder: self.folder.clone(), source }
    }
}

impl SpillReader {
    /// Reads a block.
    pub(crate) fn read(&self, extent: Extent) -> Result<Vec<u8>, SpillError> {
        let error = |source| SpillError { folder: self.folder.clone(), source };
        let file = self.file.as_ref().ok_or_else(|| error(io::ErrorKind::NotFound.into()))?;
        let mut compressed = vec![0; extent.length];
        file.read_exact_at(&mut compressed, extent.offset).map_err(error)?;
        lz4_flex::decompress_size_prepended(&compressed)
            .map_err(|source| error(io::Error::new(io::ErrorKind::InvalidData, source)))
    }

    /// The folder of the file.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}
