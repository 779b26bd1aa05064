//! The files that a store writes: what it needs of them, and a folder of the real ones.
//!
//! Knows nothing of what is in them. The simulator brings files that fail and forget.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One folder's files: one is written at a time, the newest; and a small one beside them is rewritten in place.
///
/// What is written survives the end of the process, what was synced a power cut.
pub trait Files: Send {
    /// Which run of the machine this is: another number after each start; 0 if that is not known.
    fn boot(&self) -> u128;

    /// The names of all files.
    ///
    /// # Errors
    /// Those of the file system, here and below; they name the file.
    fn names(&mut self) -> io::Result<Vec<String>>;

    /// Reads a file from its start, at most so many bytes of it.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn read(&mut self, name: &str, most: u64) -> io::Result<Vec<u8>>;

    /// Makes a file that was not there; from now on it is the one that is written.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Writes at the end of the newest file, perhaps not all; returns how many bytes it took.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the newest file to this many bytes.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes the newest file's bytes survive a power cut.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn sync(&mut self) -> io::Result<()>;

    /// Makes the folder's list of files survive a power cut.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn sync_names(&mut self) -> io::Result<()>;

    /// Deletes a file; one that is not there is no error.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// What the small file holds; nothing if it is new.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn mark(&mut self) -> io::Result<Vec<u8>>;

    /// Rewrites the small file, always with as many bytes: all of them or none, also in a power cut, as they are fewer than a disk's sector.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn set_mark(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the small file survive a power cut.
    ///
    /// # Errors
    /// See [`names`](Self::names).
    fn sync_mark(&mut self) -> io::Result<()>;
}

/// A folder in the file system, owned by whoever holds its lock.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The small file, whose lock is the folder's.
    mark: File,
    /// The file that is written, and its path.
    newest: Option<(PathBuf, File)>,
    boot: u128,
}

impl Folder {
    const MARK: &str = "lock";

    /// Makes the folder if it is not there, and takes its lock, which ends with the process.
    ///
    /// # Errors
    /// The folder cannot be made or written, or has an owner.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Err(error) = fs::create_dir(path)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(with_path(path, error));
        }
        let path = path
            .canonicalize()
            .map_err(|error| with_path(path, error))?;
        let mark_path = path.join(Self::MARK);
        let mark = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&mark_path)
            .map_err(|error| with_path(&mark_path, error))?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let problem = format!("{} is in use by another process", path.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, problem));
            }
            Err(TryLockError::Error(error)) => return Err(with_path(&mark_path, error)),
        }
        // The folder is in its parent's list, which a power cut must not undo.
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

    /// Does something with the newest file.
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
        // A name that is not UTF-8 is none of ours.
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
        // What is written goes to the end, wherever a cut put it.
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

/// The number that Linux gives to this run of the machine; 0 where there is none.
fn boot() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| with_path(path, error))
}

/// An error of the same kind that names the file.
fn with_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
