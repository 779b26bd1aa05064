//! The store on real files: a killed process, truncated files, flipped bits, locked and invalid
//! folders, a full disk.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::internals::{Disk, SKIP};
use fanfare::{EventStore, Fsync, Namespace, Record, Recovered};

use crate::restored::Restored;
use crate::support::{TIMEOUT, within};

/// The variables with the task of a child process, and its folder.
const TASK: &str = "FANFARE_TEST_TASK";
const FOLDER: &str = "FANFARE_TEST_FOLDER";
/// The size of a segment in these tests, small enough for several of them.
const SEGMENT_BYTES: u64 = 64 << 10;
const EPOCH: u64 = 77;
/// The beginning of a segment before which no event was pruned.
const BEGINNING: usize = 28 + 12 + 16;

fn event(seq: u64) -> Record {
    let namespace = Namespace::parse("/pets/dogs").unwrap();
    Record::new(
        seq,
        vec![namespace],
        format!("data:{seq:0100}\n\n").into_bytes(),
    )
}

fn time(seq: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + seq)
}

/// Opens a store, and checks that its events are unchanged. Returns it with the numbers of the
/// events.
fn open(folder: &Path) -> io::Result<(Disk, Recovered, Vec<u64>)> {
    let mut disk = {
        let _no_start = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        Disk::open(folder, Fsync::Interval, SEGMENT_BYTES)?
    };
    let (restored, recovered) = Restored::from(&mut disk, EPOCH)?;
    for (record, at) in &restored.events {
        let seq = record.seq();
        assert_eq!(record.bytes(), event(seq).bytes());
        assert_eq!(record.namespaces(), event(seq).namespaces());
        assert_eq!(*at, time(seq));
    }
    Ok((disk, recovered, restored.numbers()))
}

fn append(disk: &mut Disk, seq: u64) -> io::Result<()> {
    disk.append(&[event(seq)], time(seq))
}

/// A folder whose store had ten events and a clean end.
fn ten_events() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, recovered, numbers) = open(folder.path()).unwrap();
    assert_eq!((recovered, numbers), (Recovered::new(1), vec![]));
    for seq in 1..=10 {
        append(&mut disk, seq).unwrap();
    }
    folder
}

/// The segment that is being written.
fn newest_segment(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .max()
        .unwrap()
}

/// Held while a process starts: it inherits the locks of this one.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts this program as a child process that does one task in a folder.
fn child(program: &str, arguments: &[&str], task: &str, folder: &Path) -> Child {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new(program)
        .args(arguments)
        .args([
            "--exact",
            "disk::real::a_child_process_does_its_task",
            "--nocapture",
        ])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has written something, or has ended, it holds no lock of this process.
    within(TIMEOUT, move || {
        let _ = child.stdout.as_mut().unwrap().read(&mut [0]);
        child
    })
}

fn this_program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().into()
}

/// Runs a task with a file system in memory mounted at the folder, in a mount namespace of its own.
/// Fails without the right to mount.
fn on_a_mount(options: &str, task: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = this_program();
    let mount = format!("mount -t tmpfs -o {options} tmpfs \"$0\" && exec \"$@\"");
    let path = folder.path().to_str().unwrap();
    let mut arguments = vec!["--mount", "sh", "-c", &mount, path, &program];
    if !rustix::process::geteuid().is_root() {
        arguments.insert(0, "--map-root-user");
    }
    let child = child("unshare", &arguments, task, folder.path());
    let output = within(TIMEOUT, || child.wait_with_output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("task done"),
        "{text}"
    );
}

/// The entry point of the child processes of the tests below. Without a task it does nothing.
#[test]
fn a_child_process_does_its_task() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    match &task[..] {
        "append" => append_until_killed(&folder),
        "open" => println!("{}", open(&folder).unwrap_err()),
        "fill" => fill(&folder),
        "write nothing" => {
            let error = open(&folder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
            assert!(
                error.to_string().contains(folder.to_str().unwrap()),
                "{error}"
            );
        }
        task => panic!("unknown task {task}"),
    }
    println!("task done");
}

#[test]
fn a_run_continues_where_the_last_one_ended() {
    let folder = ten_events();
    let (mut disk, recovered, numbers) = open(folder.path()).unwrap();
    assert_eq!(numbers, (1..=10).collect::<Vec<u64>>());
    assert_eq!(recovered, Recovered::new(11));
    append(&mut disk, 11).unwrap();
    drop(disk);
    let (mut disk, _, numbers) = open(folder.path()).unwrap();
    assert_eq!(numbers, (1..=11).collect::<Vec<u64>>());
    disk.prune(12).unwrap();
    drop(disk);
    // Only the count is left, and runs without events leave no files.
    for _ in 0..3 {
        let (_, recovered, numbers) = open(folder.path()).unwrap();
        assert_eq!((recovered.next_seq, numbers), (12, vec![]));
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "a segment and the lock"
    );
}

#[test]
fn a_truncated_end_is_reported_and_its_numbers_are_not_reused() {
    let folder = ten_events();
    let path = newest_segment(folder.path());
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    let (_disk, recovered, numbers) = open(folder.path()).unwrap();
    assert_eq!(numbers, (1..=9).collect::<Vec<u64>>());
    assert_eq!(recovered.next_seq, 11);
    let damage = recovered.damage.unwrap();
    let record = (length as usize - BEGINNING) / 10;
    let expected = format!(
        "0000000001.log: {} bytes from byte {} on",
        record - 3,
        BEGINNING + 9 * record
    );
    assert!(damage.starts_with(&expected), "{damage}, {expected}");
}

#[test]
fn a_flipped_byte_ends_its_segment_and_is_reported() {
    let folder = ten_events();
    let path = newest_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let record = (bytes.len() - BEGINNING) / 10;
    bytes[BEGINNING + 5 * record + record / 2] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (mut disk, recovered, numbers) = open(folder.path()).unwrap();
    assert_eq!(numbers, (1..=5).collect::<Vec<u64>>());
    assert_eq!(recovered.next_seq, 11);
    assert!(recovered.damage.is_some());
    append(&mut disk, 11).unwrap();
    drop(disk);
    let (_, _, numbers) = open(folder.path()).unwrap();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 11]);
}

#[test]
fn the_epoch_stays_while_there_are_files() {
    for leave in ["lock", "0000000001.log"] {
        let folder = ten_events();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with(leave) {
                fs::remove_file(path).unwrap();
            }
        }
        let mut disk = Disk::open(folder.path(), Fsync::Never, SEGMENT_BYTES).unwrap();
        let (restored, _) = Restored::from(&mut disk, 99).unwrap();
        assert_eq!(restored.epoch, Some(EPOCH), "{leave}");
    }
}

#[test]
fn a_damaged_segment_stays_until_it_is_pruned() {
    let folder = ten_events();
    let path = newest_segment(folder.path());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"F", 0).unwrap();
    for _ in 0..2 {
        let (mut disk, recovered, numbers) = open(folder.path()).unwrap();
        let damage = recovered.damage.unwrap();
        assert!(
            damage.starts_with("0000000001.log: the whole file"),
            "{damage}"
        );
        assert_eq!((recovered.next_seq, numbers), (11, vec![]));
        disk.prune(10).unwrap();
        assert!(path.exists());
    }
    open(folder.path()).unwrap().0.prune(11).unwrap();
    assert!(!path.exists());
}

#[test]
fn without_the_mark_numbers_continue_after_a_large_gap() {
    let folder = ten_events();
    fs::remove_file(folder.path().join("lock")).unwrap();
    let (_disk, recovered, numbers) = open(folder.path()).unwrap();
    assert_eq!(recovered.next_seq, 11 + SKIP);
    assert_eq!(numbers.len(), 10);
}

#[test]
fn a_segment_of_another_version_is_left_alone() {
    let folder = ten_events();
    let path = newest_segment(folder.path());
    let mut header = fs::read(&path).unwrap()[..24].to_vec();
    header[7] = 9;
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let before = fs::read(&path).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("0000000001.log has format version 9"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let owner = open(folder.path()).unwrap();
    let taken = format!("{} is in use by another process", folder.path().display());
    let error = open(folder.path()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::ResourceBusy, taken.clone())
    );
    let child = child(&this_program(), &[], "open", folder.path());
    let output = within(TIMEOUT, || child.wait_with_output()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&taken), "{text}");
    drop(owner);
    open(folder.path()).unwrap();
}

#[test]
fn an_invalid_folder_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, kind) in [
        (file.clone(), ErrorKind::NotADirectory),
        (file.join("below"), ErrorKind::NotADirectory),
        (folder.path().join("no/parent"), ErrorKind::NotFound),
    ] {
        let error = open(&path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_read_only_folder_is_named_in_the_error() {
    on_a_mount("ro", "write nothing");
}

#[test]
fn a_full_disk_refuses_events_until_there_is_room() {
    on_a_mount("size=2m", "fill");
}

fn fill(folder: &Path) {
    let (mut disk, ..) = open(folder).unwrap();
    let (mut next, mut stored) = (1, 0);
    // Appends succeed until the disk is full, and again after half of the events are pruned.
    for round in 0..4 {
        let error = loop {
            match append(&mut disk, next) {
                Ok(()) => (next, stored) = (next + 1, stored + 1),
                Err(error) => break error,
            }
            if next % 100 == 0 {
                disk.sync().unwrap();
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert!(stored > 5_000 * (round + 1), "only {stored} events fit");
        append(&mut disk, next).unwrap_err();
        drop(disk);
        // Opening works on a full disk.
        let (reopened, recovered, numbers) = open(folder).unwrap();
        assert!(numbers.is_sorted() && numbers.last() == Some(&(next - 1)));
        // The last events were refused, but may have been delivered under their numbers.
        assert!(recovered.next_seq > next + SKIP / 2);
        (disk, next) = (reopened, recovered.next_seq);
        disk.prune(numbers[numbers.len() / 2]).unwrap();
    }
    disk.prune(next).unwrap();
    append(&mut disk, next).unwrap();
}

#[test]
fn events_that_counted_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 1;
    for _ in 0..5 {
        let mut child = child(&this_program(), &[], "append", folder.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut numbers = lines
            .map_while(Result::ok)
            .filter_map(|line| line.parse::<u64>().ok());
        let (first, numbers) = within(TIMEOUT, move || {
            let first = numbers.find(|&counted| counted > next + 2_000);
            (first.unwrap(), numbers)
        });
        child.kill().unwrap();
        let counted = numbers.last().unwrap_or(first);
        child.wait().unwrap();
        let (_disk, recovered, numbers) = open(folder.path()).unwrap();
        let last = *numbers.last().unwrap();
        assert!(last >= counted, "{counted} counted, {last} is the last");
        assert_eq!(numbers, (1..=last).collect::<Vec<u64>>());
        assert_eq!(recovered.next_seq, last + 1);
        next = last + 1;
    }
}

/// Appends events, and prints after each append the last number that counts.
fn append_until_killed(folder: &Path) {
    let (mut disk, recovered, _) = open(folder).unwrap();
    let mut next = recovered.next_seq;
    loop {
        append(&mut disk, next).unwrap();
        println!("{next}");
        next += 1;
        if next % 1_000 == 0 {
            disk.sync().unwrap();
        }
    }
}
