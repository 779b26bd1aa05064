//! The files of a store: the operations that it needs, and a folder that has them.
//!
//! Knows nothing of what is in the files. The simulator implements [`Files`] with files that fail
//! and lose writes.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The files of one folder. The one created last, the *newest*, is the only one that is written.
/// Next to it is a small file for the mark, which is rewritten in place.
///
/// Written bytes survive the end of the process; synced bytes survive a power cut.
///
/// # Errors
/// All methods return the errors of the file system, which name the file.
pub trait Files: Send {
    /// Returns the boot ID of the machine, which changes with each start; 0 if it is unknown.
    fn boot(&self) -> u128;

    /// Returns the names of all files.
    ///
    /// # Errors
    /// See [`Files`].
    fn names(&mut self) -> io::Result<Vec<String>>;

    /// Reads a file from its start, at most `most` bytes of it.
    ///
    /// # Errors
    /// See [`Files`].
    fn read(&mut self, name: &str, most: u64) -> io::Result<Vec<u8>>;

    /// Creates a file, which must not exist. It becomes the newest.
    ///
    /// # Errors
    /// See [`Files`].
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Writes at the end of the newest file; returns how many of the bytes were written.
    ///
    /// # Errors
    /// See [`Files`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Truncates the newest file to this length.
    ///
    /// # Errors
    /// See [`Files`].
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// Syncs the content of the newest file.
    ///
    /// # Errors
    /// See [`Files`].
    fn sync(&mut self) -> io::Result<()>;

    /// Syncs the list of files.
    ///
    /// # Errors
    /// See [`Files`].
    fn sync_names(&mut self) -> io::Result<()>;

    /// Deletes a file, if it exists.
    ///
    /// # Errors
    /// See [`Files`].
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Returns the content of the file for the mark; empty if it is new.
    ///
    /// # Errors
    /// See [`Files`].
    fn mark(&mut self) -> io::Result<Vec<u8>>;

    /// Overwrites the content of the file for the mark. The length must always be the same, and
    /// smaller than a disk sector, so that a power cut leaves the old content or the new.
    ///
    /// # Errors
    /// See [`Files`].
    fn set_mark(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Syncs the file for the mark.
    ///
    /// # Errors
    /// See [`Files`].
    fn sync_mark(&mut self) -> io::Result<()>;
}

/// A folder in the file system. One process at a time uses it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The file for the mark. Its lock is the lock of the folder.
    mark: File,
    /// The newest file and its path.
    newest: Option<(PathBuf, File)>,
    boot: u128,
}

impl Folder {
    const MARK: &str = "lock";

    /// Creates the folder if it does not exist, and locks it until the value is dropped or the
    /// process ends.
    ///
    /// # Errors
    /// The folder cannot be created or written, or another process has locked it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Err(error) = fs::create_dir(path)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(with_path(path, error));
        }
        let path = path
            .canonicalize()
            .map_err(|error| with_path(path, error))?;
        let mark = Self::lock(&path)?;
        // The parent's list of files names the folder, and must survive a power cut, too.
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        Ok(Self {
            path,
            mark,
            newest: None,
            boot: boot(),
        })
    }

    /// Opens and locks the file for the mark.
    fn lock(folder: &Path) -> io::Result<File> {
        let path = folder.join(Self::MARK);
        let mark = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| with_path(&path, error))?;
        match mark.try_lock() {
            Ok(()) => Ok(mark),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                ErrorKind::ResourceBusy,
                format!("{} is in use by another process", folder.display()),
            )),
            Err(TryLockError::Error(error)) => Err(with_path(&path, error)),
        }
    }

    /// Applies a function to the newest file.
    fn newest<T>(&mut self, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let Some((path, file)) = &mut self.newest else {
            return Err(ErrorKind::NotFound.into());
        };
        act(file).map_err(|error| with_path(path, error))
    }

    fn with_mark_path(&self, error: io::Error) -> io::Error {
        with_path(&self.path.join(Self::MARK), error)
    }
}

impl Files for Folder {
    fn boot(&self) -> u128 {
        self.boot
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let all = fs::read_dir(&self.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let all = all.map_err(|error| with_path(&self.path, error))?;
        // A name that is not UTF-8 is not a segment's.
        let names = all.into_iter().map(|entry| entry.file_name().into_string());
        Ok(names.filter_map(Result::ok).collect())
    }

    fn read(&mut self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let path = self.path.join(name);
        let read = || {
            let file = File::open(&path)?;
            let expected = file.metadata()?.len().min(most);
            let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| with_path(&path, error))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        // Appending writes to the end, also after the file was truncated.
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| with_path(&path, error))?;
        self.newest = Some((path, file));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.newest(|file| file.write(bytes))
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.newest(|file| file.set_len(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.newest(|file| file.sync_data())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(with_path(&path, error)),
            _ => Ok(()),
        }
    }

    fn mark(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.mark.read_to_end(&mut bytes);
        read.map_err(|error| self.with_mark_path(error))?;
        Ok(bytes)
    }

    fn set_mark(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.mark.write_all_at(bytes, 0);
        written.map_err(|error| self.with_mark_path(error))
    }

    fn sync_mark(&mut self) -> io::Result<()> {
        let synced = self.mark.sync_data();
        synced.map_err(|error| self.with_mark_path(error))
    }
}

/// Returns the boot ID that Linux provides; 0 on other systems.
fn boot() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| with_path(path, error))
}

/// An error of the file system with the file that it is about.
#[derive(Debug)]
struct PathError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Adds the path of the file to an error. The kind stays the same.
fn with_path(path: &Path, error: io::Error) -> io::Error {
    let path = path.to_owned();
    io::Error::new(error.kind(), PathError { path, error })
}
