//! The folder of an export. Whatever is in it under its name is complete: a file is written under a temporary name, and
//! gets its own once it is on the disk.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

/// What the names of files begin with that aren't complete.
const TEMPORARY_PREFIX: &str = ".writing-";
/// For how long nobody has written to such a file before it counts as left behind by a process that was killed.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(3_600);

/// A place for an export on this machine's disks.
#[derive(Debug, Clone)]
pub struct ExportFolder {
    path: PathBuf,
}

impl ExportFolder {
    /// Opens a folder, and creates it if there is none. Deletes what processes have left behind that were killed.
    ///
    /// # Errors
    /// When the system refuses that.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let folder = Self { path: path.to_owned() };
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let is_temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
            // Another process may publish or delete it in this moment.
            let modified = || entry.metadata().and_then(|it| it.modified()).unwrap_or_else(|_| SystemTime::now());
            if is_temporary && modified().elapsed().is_ok_and(|age| age > LEFT_BEHIND_AFTER) {
                fs::remove_file(entry.path()).or_else(ignore_absence)?;
            }
        }
        Ok(folder)
    }

    /// Whether something is in it that isn't temporary.
    pub(super) fn is_used(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.path)? {
            if !entry?.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The content of a file, if there is one of this name.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        fs::read(self.path.join(name)).map(Some).or_else(|error| ignore_absence(error).map(|()| None))
    }

    /// Opens a file to read, if there is one of this name.
    pub(super) fn file(&self, name: &str) -> io::Result<Option<File>> {
        File::open(self.path.join(name)).map(Some).or_else(|error| ignore_absence(error).map(|()| None))
    }

    /// Writes a document, unless there is one of this name. Returns whether there was none.
    pub(super) fn create(&self, name: &str, content: &[u8]) -> io::Result<bool> {
        let mut file = self.begin()?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        let created = match file.persist_noclobber(self.path.join(name)) {
            Ok(_) => true,
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.error),
        };
        self.sync()?;
        Ok(created)
    }

    /// Begins a file, which has no name yet.
    pub(super) fn begin(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        // Others may read it, as far as the process's umask allows.
        builder.prefix(TEMPORARY_PREFIX).permissions(Permissions::from_mode(0o666)).tempfile_in(&self.path)
    }

    /// Gives a file its name, once it is on the disk. Replaces one of the same name: it has the same content.
    pub(super) fn publish(&self, file: NamedTempFile, name: &str) -> io::Result<()> {
        file.as_file().sync_all()?;
        file.persist(self.path.join(name)).map_err(|error| error.error)?;
        self.sync()
    }

    /// Makes the names in it survive a crash of the machine.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn ignore_absence(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
