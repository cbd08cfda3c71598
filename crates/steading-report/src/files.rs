//! The files that are made from a run's log and results.

use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_logs::{LOG_FILE, LogError, LogReader, ReadLogError};
use steading_plan::env_vars;
use thiserror::Error;

use crate::log::LogView;
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
    /// The log cannot be opened.
    #[error("cannot make the report")]
    Open(#[from] LogError),
    /// The log cannot be read.
    #[error("cannot make the report: the log cannot be read")]
    Log(#[source] ReadLogError),
    /// A file cannot be written.
    #[error("cannot make the report")]
    Io(#[from] io::Error),
    /// The XML cannot be written where the environment says.
    #[error("cannot write the results as XML to {path}, which {variable} names")]
    XmlFile {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The results cannot be written as XML.
    #[error("cannot write the results as XML")]
    Xml(#[from] quick_junit::SerializeError),
}

/// The files of a report.
#[derive(Debug)]
pub struct Rendered {
    /// `report.html`: all of it, for people.
    pub page: String,
    /// `junit.xml`: the results, for continuous integration.
    pub junit: String,
    /// `trace.json`: the timeline, for Perfetto.
    pub trace: String,
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
    let mut log = LogReader::open(&dir.join(LOG_FILE))?;
    let rendered = render(&summary, &mut log, &pictures(&dir.join(PICTURES)))?;
    fs::write(dir.join("junit.xml"), &rendered.junit)?;
    if let Some(path) = std::env::var_os(env_vars::XML_OUTPUT_FILE).filter(|path| !path.is_empty()) {
        std::fs::write(&path, &rendered.junit).map_err(|source| {
            let (variable, path) = (env_vars::XML_OUTPUT_FILE, path.to_string_lossy().into_owned());
            ReportError::XmlFile { variable, path, source }
        })?;
    }
    fs::write(dir.join("trace.json"), rendered.trace)?;
    let page = dir.join("report.html");
    fs::write(&page, rendered.page)?;
    Ok(page)
}

/// The report of a run with these results, this log, and pictures in base64 by their names. Of the
/// log it has the last records; what was passed over is among its warnings.
///
/// # Errors
///
/// When the log cannot be read.
pub fn render<R: BufRead>(
    summary: &Summary,
    log: &mut LogReader<R>,
    pictures: &[(String, String)],
) -> Result<Rendered, ReportError> {
    let log = LogView::read(log).map_err(ReportError::Log)?;
    let timeline = Timeline::new(summary, &log);
    Ok(Rendered {
        page: html::render(summary, &timeline, &log, pictures),
        junit: junit::render(summary)?,
        trace: trace::render(&timeline).to_string(),
    })
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
