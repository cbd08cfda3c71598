//! The files of a log.
//!
//! ```text
//! log.jsonl               every record, in the order of writing
//! test.log                the same for people
//! vms/<vm>/console.raw    every byte of the serial console
//! vms/<vm>/console.log    its lines, without control sequences
//! vms/<vm>/journal.log    its journal
//! ```
//!
//! Files are only ever appended to. A disk that is full costs lines and nothing else: the first
//! error of each file is kept for the owner to report, writing is tried again with the next
//! lines, and when it works again the file says how much is missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::{File, OpenOptions};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use steading_plan::VmName;

use crate::error::LogError;
use crate::reader::{LOG_FILE, LogReader};
use crate::record::{LOG_VERSION, LogHeader, Record};

/// What is buffered per file, in bytes; see [`LogFiles::flush`].
const BUFFER: usize = 16 * 1024;

/// How wide the column of VM names is at least.
const VM_COLUMN: usize = 10;

/// A file that is appended to, whatever happens.
#[derive(Debug)]
struct Appended<W: Write> {
    path: Utf8PathBuf,
    writer: BufWriter<W>,
    /// The last attempt failed.
    failing: bool,
    /// Writes that were given up since.
    lost: u64,
    /// How a person is told of lost lines, if the file is for people.
    tells: bool,
}

impl<W: Write> Appended<W> {
    fn new(path: Utf8PathBuf, writer: W, tells: bool) -> Self {
        Self { path, writer: BufWriter::with_capacity(BUFFER, writer), failing: false, lost: 0, tells }
    }

    fn append(&mut self, bytes: &[u8], problems: &mut Vec<LogError>) {
        if self.failing {
            // What is buffered must get out first; else nothing has changed.
            if self.writer.flush().is_err() {
                self.lost += 1;
                return;
            }
            self.failing = false;
            let lost = std::mem::take(&mut self.lost);
            if self.tells && lost > 0 {
                let notice = format!("--- {lost} lines could not be written here ---\n");
                self.attempt(|writer| writer.write_all(notice.as_bytes()), problems);
            }
        }
        if !self.attempt(|writer| writer.write_all(bytes), problems) {
            self.lost += 1;
        }
    }

    fn flush(&mut self, problems: &mut Vec<LogError>) {
        if !self.failing {
            self.attempt(Write::flush, problems);
        }
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>,
        problems: &mut Vec<LogError>,
    ) -> bool {
        let Err(error) = write(&mut self.writer) else { return true };
        self.failing = true;
        problems.push(LogError::write(&self.path, error));
        false
    }
}

type AppendedFile = Appended<std::fs::File>;

#[derive(Debug)]
struct VmFiles {
    raw: Option<AppendedFile>,
    console: Option<AppendedFile>,
    journal: Option<AppendedFile>,
}

/// The files of one run's log.
#[derive(Debug)]
pub struct LogFiles {
    directory: Utf8PathBuf,
    records: AppendedFile,
    human: AppendedFile,
    vms: BTreeMap<VmName, VmFiles>,
    problems: Vec<LogError>,
}

impl LogFiles {
    /// Opens or goes on with the log in `directory`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// When the directory or the merged files cannot be opened; that is before a testnet is begun.
    pub fn open(directory: &Utf8Path) -> Result<Self, LogError> {
        make_directory(directory)?;
        let records = open_appended(directory.join(LOG_FILE), false)?;
        let human = open_appended(directory.join("test.log"), true)?;
        let mut files = Self {
            directory: directory.to_owned(),
            records,
            human,
            vms: BTreeMap::new(),
            problems: Vec::new(),
        };
        files.begin();
        Ok(files)
    }

    /// Where they are.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// The file with every record.
    pub fn records_path(&self) -> &Utf8Path {
        &self.records.path
    }

    /// The file for people.
    pub fn human_path(&self) -> &Utf8Path {
        &self.human.path
    }

    /// Writes a record to the merged files.
    pub fn merged(&mut self, record: &Record) {
        if let Ok(mut json) = serde_json::to_string(record) {
            json.push('\n');
            self.records.append(json.as_bytes(), &mut self.problems);
        }
        self.human.append(human_line(record).as_bytes(), &mut self.problems);
    }

    /// Appends the bytes of a VM's console to its raw file.
    pub fn console_raw(&mut self, vm: &VmName, bytes: &[u8]) {
        self.vm_file(vm, |files| &mut files.raw, bytes);
    }

    /// Appends a line to a VM's console file.
    pub fn console_line(&mut self, vm: &VmName, time: Timestamp, text: &str, continued: bool) {
        let line = format!("{} {}{text}\n", clock(time), if continued { "…" } else { "" });
        self.vm_file(vm, |files| &mut files.console, line.as_bytes());
    }

    /// Appends an entry to a VM's journal file.
    pub fn journal_line(&mut self, vm: &VmName, record: &Record) {
        let mut text = String::new();
        for (number, line) in record.said().lines().enumerate() {
            let _ = writeln!(text, "{} {}{line}", clock(record.time), if number > 0 { "  " } else { "" });
        }
        self.vm_file(vm, |files| &mut files.journal, text.as_bytes());
    }

    /// Marks a boot in a VM's files for people.
    pub fn mark_boot(&mut self, vm: &VmName, time: Timestamp, boot: u32) {
        let mark = format!("--- boot {boot} --- {} UTC\n", time.strftime("%F %T"));
        self.vm_file(vm, |files| &mut files.console, mark.as_bytes());
        self.vm_file(vm, |files| &mut files.journal, mark.as_bytes());
    }

    /// Gets what is buffered to the files. Called whenever there is nothing else to do, and at
    /// least once a second, so that even SIGKILL costs but the last moment.
    pub fn flush(&mut self) {
        let files = self.vms.values_mut().flat_map(|vm| [&mut vm.raw, &mut vm.console, &mut vm.journal]);
        for file in files.flatten().chain([&mut self.records, &mut self.human]) {
            file.flush(&mut self.problems);
        }
    }

    /// What went wrong since this was last asked: each file's trouble once.
    pub fn take_problems(&mut self) -> Vec<LogError> {
        std::mem::take(&mut self.problems)
    }

    fn begin(&mut self) {
        let begun = Timestamp::now();
        let empty = |file: &AppendedFile| file.writer.get_ref().metadata().is_ok_and(|meta| meta.len() == 0);
        if empty(&self.records) {
            let header = LogHeader { steading_log: LOG_VERSION, begun };
            if let Ok(json) = serde_json::to_string(&header) {
                self.records.append(format!("{json}\n").as_bytes(), &mut self.problems);
            }
        }
        let mark = format!("--- log of {}, times are UTC ---\n", begun.strftime("%F"));
        self.human.append(mark.as_bytes(), &mut self.problems);
    }

    fn vm_file(
        &mut self,
        vm: &VmName,
        file: impl FnOnce(&mut VmFiles) -> &mut Option<AppendedFile>,
        bytes: &[u8],
    ) {
        let files = self.vms.entry(vm.clone()).or_insert_with(|| {
            let directory = self.directory.join("vms").join(vm.as_str());
            open_vm(&directory, &mut self.problems)
        });
        if let Some(file) = file(files) {
            file.append(bytes, &mut self.problems);
        }
    }
}

impl Drop for LogFiles {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open_vm(directory: &Utf8Path, problems: &mut Vec<LogError>) -> VmFiles {
    if let Err(error) = make_directory(directory) {
        problems.push(error);
        return VmFiles { raw: None, console: None, journal: None };
    }
    let mut open =
        |name, tells| open_appended(directory.join(name), tells).map_err(|error| problems.push(error)).ok();
    VmFiles {
        raw: open("console.raw", false),
        console: open("console.log", true),
        journal: open("journal.log", true),
    }
}

fn make_directory(directory: &Utf8Path) -> Result<(), LogError> {
    fs_err::create_dir_all(directory).map_err(|source| LogError::Open { path: directory.to_owned(), source })
}

/// Opens a file at its end. If its last line is torn, since its writer was killed, it is ended.
fn open_appended(path: Utf8PathBuf, tells: bool) -> Result<AppendedFile, LogError> {
    let file = OpenOptions::new().append(true).create(true).open(&path);
    let file: File = file.map_err(|source| LogError::Open { path: path.clone(), source })?;
    let raw = path.extension() == Some("raw");
    let torn = !raw && ends_torn(&path).map_err(|source| LogError::Open { path: path.clone(), source })?;
    let mut appended = Appended::new(path, file.into_parts().0, tells);
    if torn {
        appended.append(b"\n", &mut Vec::new());
    }
    Ok(appended)
}

fn ends_torn(path: &Utf8Path) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn clock(time: Timestamp) -> impl std::fmt::Display {
    time.to_zoned(TimeZone::UTC).strftime("%H:%M:%S.%3f").to_string()
}

/// A record as a person reads it: `HH:MM:SS.mmm vm console| text`, a line for each of its lines.
fn human_line(record: &Record) -> String {
    let said = record.said();
    let vm = record.vm.as_ref().map_or("-", VmName::as_str);
    let time = clock(record.time);
    let mut out = String::with_capacity(said.len() + 40);
    let mut continued = record.cont;
    // An empty message is a line all the same.
    for line in said.lines().chain(said.is_empty().then_some("")) {
        let mark = if continued { "…" } else { "" };
        let _ = writeln!(out, "{time} {vm:<VM_COLUMN$} {:>7}| {mark}{line}", record.stream.as_str());
        continued = true;
    }
    out
}

/// Rewrites `test.log` from `log.jsonl`, both in `directory`, with every record in its place: a
/// boot's journal arrives only when the guest has a network, far behind its console.
///
/// For the end of a run. The old file is replaced in one step, once the new one is whole; who is
/// killed before that leaves no other file. Of a record only its time and place are in memory.
///
/// # Errors
///
/// When a file cannot be read or written; the old one is then as it was.
pub fn sort_human_log(directory: &Utf8Path) -> Result<(), LogError> {
    let source = directory.join(LOG_FILE);
    let unread = |error| LogError::Read { path: source.clone(), source: error };
    let mut reader = LogReader::open(&source)?;
    let mut order = Vec::new();
    while let Some(record) = reader.next_record().map_err(unread)? {
        order.push((record.time, reader.line_begin()));
    }
    let skipped = reader.skipped();
    order.sort_unstable();

    let target = directory.join("test.log");
    let aside = directory.join(".test.log.sorted");
    let unwritten = |error| LogError::write(&target, error);
    let mut write = || {
        let file =
            create_without_name(directory).or_else(|_| std::fs::File::create(&aside)).map_err(unwritten)?;
        let mut writer = BufWriter::new(&file);
        let mut day = None;
        for &(_, begin) in &order {
            let Some(record) = reader.record_at(begin).map_err(unread)? else { break };
            let today = record.time.strftime("%F").to_string();
            if day.as_ref() != Some(&today) {
                writeln!(writer, "--- log of {today}, times are UTC ---").map_err(unwritten)?;
                day = Some(today);
            }
            writer.write_all(human_line(&record).as_bytes()).map_err(unwritten)?;
        }
        if let (None, Some(header)) = (day, reader.header()) {
            writeln!(writer, "--- log of {}, times are UTC ---", header.begun.strftime("%F"))
                .map_err(unwritten)?;
        }
        if let Some(told) = skipped.told() {
            writeln!(writer, "--- {told} ---").map_err(unwritten)?;
        }
        writer.flush().map_err(unwritten)?;
        give_name(&file, &aside).map_err(unwritten)?;
        fs_err::rename(&aside, &target).map_err(unwritten)
    };
    write().inspect_err(|_| {
        // The message is about the log; that its copy could not be removed adds nothing to it.
        let _ = fs_err::remove_file(&aside);
    })
}

/// A file that is gone with its writer, should that be killed while it writes (`O_TMPFILE`).
fn create_without_name(directory: &Utf8Path) -> io::Result<std::fs::File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    // As of any file that is created; the umask takes from it.
    let mode = Mode::from_raw_mode(0o666);
    Ok(std::fs::File::from(rustix::fs::open(directory.as_std_path(), flags, mode)?))
}

/// Gives such a file a name, unless it has this one.
fn give_name(file: &std::fs::File, name: &Utf8Path) -> io::Result<()> {
    if file.metadata()?.nlink() > 0 {
        return Ok(());
    }
    // As open(2) shows it; AT_EMPTY_PATH would need a capability.
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, &from, CWD, name.as_std_path(), AtFlags::SYMLINK_FOLLOW) {
        // Somebody was killed between this and the renaming.
        Err(Errno::EXIST) => {
            fs_err::remove_file(name)?;
            Ok(rustix::fs::linkat(CWD, from, CWD, name.as_std_path(), AtFlags::SYMLINK_FOLLOW)?)
        }
        linked => Ok(linked?),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
