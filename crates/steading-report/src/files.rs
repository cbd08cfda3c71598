//! The files that are made from a run's log and results.

use std::io::{self, BufRead as _, BufReader};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_logs::Record;
use steading_plan::env_vars;
use thiserror::Error;

use crate::timeline::Timeline;
use crate::{Summary, html, junit, trace};

/// The directory of pictures of displays, below that of the logs; each is called
/// `FUNCTION.VM.png`.
pub const PICTURES: &str = "pictures";

/// Why a report cannot be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The results cannot be read.
    #[error(
        "cannot read the results of a run in {dir}\nhint: a directory of logs has results.json once the run has ended"
    )]
    Results {
        /// The directory.
        dir: Utf8PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The log cannot be read, or a file not be written.
    #[error("cannot make the report")]
    Io(#[from] io::Error),
    /// The results cannot be written as XML.
    #[error("cannot write the results as XML")]
    Xml(#[from] quick_junit::SerializeError),
}

/// Makes `report.html`, `junit.xml` and `trace.json` in a directory of logs. Returns the path of the
/// page.
///
/// # Errors
///
/// When the directory has no results, or cannot be written to.
pub fn write(dir: &Utf8Path) -> Result<Utf8PathBuf, ReportError> {
    let summary =
        Summary::read(dir).map_err(|source| ReportError::Results { dir: dir.to_owned(), source })?;
    let records = records(&dir.join("log.jsonl"))?;
    let timeline = Timeline::new(&summary, &records);
    let xml = junit::render(&summary)?;
    fs::write(dir.join("junit.xml"), &xml)?;
    if let Some(path) = std::env::var_os(env_vars::XML_OUTPUT_FILE) {
        fs::write(path, &xml)?;
    }
    fs::write(dir.join("trace.json"), trace::render(&timeline).to_string())?;
    let page = dir.join("report.html");
    let pictures = pictures(&dir.join(PICTURES));
    fs::write(&page, html::render(&summary, &timeline, &records, &pictures))?;
    Ok(page)
}

/// The pictures that were taken, by name, each as base64. None if there is no directory of them.
fn pictures(dir: &Utf8Path) -> Vec<(String, String)> {
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let picture = |entry: camino::Utf8DirEntry| {
        let name = entry.file_name().strip_suffix(".png")?.to_owned();
        Some((name, BASE64.encode(fs::read(entry.path()).ok()?)))
    };
    let mut pictures: Vec<_> = entries.filter_map(picture).collect();
    pictures.sort();
    pictures
}

/// Opens a log for reading. What is no file may have no end.
///
/// # Errors
///
/// When it cannot be opened, or is a device or a pipe.
pub fn open_log(file: &Utf8Path) -> io::Result<fs::File> {
    let opened = fs::File::open(file)?;
    if opened.metadata()?.is_file() {
        return Ok(opened);
    }
    Err(io::Error::other(format!("{file} is no regular file")))
}

/// All records, in order of time. Lines that are none are passed over: the last one of a run that
/// was killed may be cut off.
fn records(file: &Utf8Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for line in BufReader::new(open_log(file)?).lines() {
        records.extend(serde_json::from_str::<Record>(&line?).ok());
    }
    records.sort_by_key(|record| record.time);
    Ok(records)
}
