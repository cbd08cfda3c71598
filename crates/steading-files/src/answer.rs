//! What is answered: decided here, sent elsewhere.

use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use crate::table::{Document, Misbehaviour, Table};
use crate::{FileError, FileRequest, ServedFile};

/// An answer, ready to be sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// From the status line to the empty line.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    /// The file's name, if there is such a file.
    pub(crate) file: Option<String>,
    /// What is wrong with the file, if something is.
    pub(crate) trouble: Option<String>,
    /// Whether that it was asked for is told. Documents are asked for every few seconds.
    pub(crate) is_told: bool,
}

/// What follows the head.
#[derive(Debug)]
pub(crate) enum Body {
    Text(Vec<u8>),
    Part { file: File, first: u64, length: u64 },
}

impl Body {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Part { length, .. } => *length,
        }
    }

    pub(crate) const fn first(&self) -> u64 {
        match self {
            Self::Text(_) => 0,
            Self::Part { first, .. } => *first,
        }
    }
}

/// A file that is asked for, or why there is none.
pub(crate) fn look_up(
    table: &Table,
    request: &FileRequest,
) -> (Result<Arc<ServedFile>, FileError>, Misbehaviour) {
    let found = table.find(&request.target);
    let misbehaviour = table.misbehaviour(&request.target, found.as_deref().ok());
    (found, misbehaviour)
}

/// The list of all files, as sha256sum(1) writes and reads it.
pub(crate) fn list(table: &Table) -> Vec<u8> {
    let mut text = String::new();
    for file in table.files() {
        writeln!(text, "{}  {}", file.sha256, file.name).expect("a String takes all");
    }
    text.into_bytes()
}

impl Answer {
    fn new(status: u16, head: Vec<u8>, body: Body) -> Self {
        Self { status, head, body, file: None, trouble: None, is_told: true }
    }

    /// The answer to a request for this file.
    pub(crate) fn of(
        request: &FileRequest,
        found: Result<Arc<ServedFile>, FileError>,
        misbehaviour: &Misbehaviour,
    ) -> Self {
        let name = found.as_ref().ok().map(|file| file.name.clone());
        let mut answer = match misbehaviour.status {
            Some(status) => Self::text(request, status, "this was asked for by a fault of the file server"),
            None => match found {
                Err(error) => Self::text(request, 404, &error.to_string()),
                Ok(file) => Self::of_file(request, &file),
            },
        };
        answer.file = name;
        answer
    }

    fn of_file(request: &FileRequest, file: &ServedFile) -> Self {
        if !is_get_or_head(request) {
            return Self::not_allowed(request);
        }
        let tag = format!("\"{}\"", file.sha256);
        let opened = match file.open() {
            Ok(opened) => opened,
            // What is gone is so on purpose or not; the request is as good as ever.
            Err(error @ (FileError::Vanished { .. } | FileError::Changed { .. })) => {
                return Self::trouble(request, 410, &error);
            }
            Err(error) => return Self::trouble(request, 500, &error),
        };
        if request.if_none_match.as_deref().is_some_and(|tags| names(tags, &tag)) {
            let head = head(304, request, &format!("ETag: {tag}\r\n"));
            return Self::new(304, head, Body::Text(Vec::new()));
        }
        let size = file.size();
        // A range of another content than there is would be put together with what is no part of it.
        let range = request.range.filter(|_| request.if_range.as_ref().is_none_or(|wanted| *wanted == tag));
        let common =
            format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\n");
        let (status, part, more) = match range.map(|range| range.within(size)) {
            None => (200, Some((0, size)), String::new()),
            Some(Some((first, length))) => {
                let last = first + length - 1;
                (206, Some((first, length)), format!("Content-Range: bytes {first}-{last}/{size}\r\n"))
            }
            Some(None) => (416, None, format!("Content-Range: bytes */{size}\r\n")),
        };
        let length = part.map_or(0, |(_, length)| length);
        let head = head(status, request, &format!("{common}{more}Content-Length: {length}\r\n"));
        let body = match part {
            Some((first, length)) if request.method == "GET" => Body::Part { file: opened, first, length },
            _ => Body::Text(Vec::new()),
        };
        Self::new(status, head, body)
    }

    fn trouble(request: &FileRequest, status: u16, error: &FileError) -> Self {
        let said = steading_plan::chain(error);
        Self { trouble: Some(said.clone()), ..Self::text(request, status, &said) }
    }

    fn not_allowed(request: &FileRequest) -> Self {
        let head = head(405, request, "Allow: GET, HEAD\r\nContent-Length: 0\r\n");
        Self::new(405, head, Body::Text(Vec::new()))
    }

    /// An answer in words, which are a line of their own.
    pub(crate) fn text(request: &FileRequest, status: u16, words: &str) -> Self {
        Self::plain(request, status, format!("{words}\n").into_bytes())
    }

    pub(crate) fn plain(request: &FileRequest, status: u16, text: Vec<u8>) -> Self {
        Self::whole(request, status, "text/plain; charset=utf-8", text)
    }

    /// The answer that is all of a document.
    pub(crate) fn of_document(request: &FileRequest, document: &Document) -> Self {
        let whole = Self::whole(request, 200, document.content_type, document.content.clone());
        Self { is_told: false, ..whole }
    }

    fn whole(request: &FileRequest, status: u16, content_type: &str, text: Vec<u8>) -> Self {
        let fields = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", text.len());
        let head = head(status, request, &fields);
        let text = if request.method == "HEAD" { Vec::new() } else { text };
        Self::new(status, head, Body::Text(text))
    }
}

pub(crate) fn is_get_or_head(request: &FileRequest) -> bool {
    request.method == "GET" || request.method == "HEAD"
}

/// Whether a list of entity tags names this one (RFC 9110, section 13.1.2).
fn names(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|other| other == "*" || other.trim_start_matches("W/") == tag)
}

fn head(status: u16, request: &FileRequest, fields: &str) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let connection = if request.keep_alive { "keep-alive" } else { "close" };
    let reason = reason(status);
    format!("HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nConnection: {connection}\r\n{fields}\r\n")
        .into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        // The words mean nothing, and may be left out (RFC 9112, section 4).
        _ => "",
    }
}
