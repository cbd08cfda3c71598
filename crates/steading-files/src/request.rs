//! The head of a request, and the range that it asks for (RFC 9110, RFC 9112).

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The longest head that is taken, in bytes.
pub(crate) const HEAD_MAX: usize = 16 * 1024;

/// How many fields a head may have.
const FIELDS_MAX: usize = 64;

/// What cannot be answered but by an error.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// It is no HTTP.
    #[error("this is no HTTP request")]
    Syntax,
    /// The head does not end.
    #[error("the head of the request is too long")]
    TooLong,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// The method, as it was written.
    pub method: String,
    /// The path behind the first slash, decoded; without a query.
    pub target: String,
    /// Whether the connection may serve another.
    pub keep_alive: bool,
    /// The part that is wanted, if it is one that is understood.
    pub range: Option<Range>,
    /// The range is wanted of this very content only, as an entity tag.
    pub if_range: Option<String>,
    /// Nothing is wanted if the content is one of these.
    pub if_none_match: Option<String>,
    /// Something follows the head that nobody wants.
    pub has_body: bool,
}

/// A part of a file, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From one byte to another, both included.
    Between(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// The last bytes.
    Last(u64),
}

impl FileRequest {
    /// Reads a head. None if it is not complete; else the request and the length of its head.
    ///
    /// # Errors
    ///
    /// When it is no HTTP, or has no end.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadRequest> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => length,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::TooLong),
            Err(_) => return Err(BadRequest::Syntax),
        };
        let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(BadRequest::Syntax);
        };
        let mut request = Self {
            method: method.to_owned(),
            target: target(path),
            keep_alive: version == 1,
            range: None,
            if_range: None,
            if_none_match: None,
            has_body: false,
        };
        for field in parsed.headers.iter() {
            // What is no text is none of these.
            let Ok(value) = std::str::from_utf8(field.value) else { continue };
            request.take(field.name, value.trim());
        }
        Ok(Some((request, length)))
    }

    fn take(&mut self, name: &str, value: &str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("connection") {
            let says = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
            self.keep_alive = !says("close") && (self.keep_alive || says("keep-alive"));
        } else if is("range") {
            self.range = Range::parse(value);
        } else if is("if-range") {
            self.if_range = Some(value.to_owned());
        } else if is("if-none-match") {
            self.if_none_match = Some(value.to_owned());
        } else if is("transfer-encoding") || (is("content-length") && value != "0") {
            self.has_body = true;
        }
    }
}

/// The path of a request's target, which may be in absolute form (RFC 9112, section 3.2.2).
fn target(text: &str) -> String {
    let path = match text.split_once("://") {
        Some((_, rest)) if !text.starts_with('/') => rest.split_once('/').map_or("", |(_, path)| path),
        _ => text.strip_prefix('/').unwrap_or(text),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

impl Range {
    /// One range of bytes (RFC 9110, section 14.1.2). A client that asks for several, or for what is no range,
    /// gets the whole: a server may pass over the field.
    pub fn parse(value: &str) -> Option<Self> {
        let range = value.strip_prefix("bytes=")?.trim();
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // What is too large for a number is behind the end of any file.
            is_number.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The first byte and how many, in a file of so many; none if there is no such part.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        match self {
            Self::Between(first, last) if first < size => Some((first, last.min(size - 1) - first + 1)),
            Self::From(first) if first < size => Some((first, size - first)),
            Self::Last(count) if count > 0 && size > 0 => Some((size - count.min(size), count.min(size))),
            Self::Between(..) | Self::From(_) | Self::Last(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> FileRequest {
        FileRequest::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let text = "GET /update%20image?x=1 HTTP/1.1\r\nHost: f\r\nrange: bytes=5-\r\n\r\nGET /";
        let complete = text.len() - "GET /".len();
        for cut in 0..complete {
            assert_eq!(FileRequest::parse(&text.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let (request, length) = FileRequest::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, complete);
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "update image"));
        assert_eq!((request.keep_alive, request.range), (true, Some(Range::From(5))));
    }

    #[test]
    fn connections_are_kept_as_each_version_has_it() {
        assert!(request("GET / HTTP/1.1\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_target_may_name_the_host() {
        assert_eq!(request("GET http://[fd00::1]:8080/a HTTP/1.1\r\n\r\n").target, "a");
        assert_eq!(request("GET http://[fd00::1]:8080 HTTP/1.1\r\n\r\n").target, "");
    }

    #[test]
    fn what_is_no_http_and_what_has_no_end_is_refused() {
        assert_eq!(FileRequest::parse(b"\x16\x03\x01\x02\x00"), Err(BadRequest::Syntax));
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
        assert_eq!(FileRequest::parse(endless.as_bytes()), Err(BadRequest::TooLong));
        let fields = "X: y\r\n".repeat(FIELDS_MAX + 1);
        let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(FileRequest::parse(many.as_bytes()), Err(BadRequest::TooLong));
    }

    #[test]
    fn ranges_are_those_of_the_standard() {
        let part = |text: &str| Range::parse(text).map(|range| range.within(100));
        assert_eq!(part("bytes=0-9"), Some(Some((0, 10))));
        assert_eq!(part("bytes=90-200"), Some(Some((90, 10))));
        assert_eq!(part("bytes=99-"), Some(Some((99, 1))));
        assert_eq!(part("bytes=100-"), Some(None));
        assert_eq!(part("bytes=-5"), Some(Some((95, 5))));
        assert_eq!(part("bytes=-500"), Some(Some((0, 100))));
        assert_eq!(part("bytes=-0"), Some(None));
        assert_eq!(part("bytes=99999999999999999999-"), Some(None));
        for whole in ["bytes=9-5", "bytes=a-", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=+1-2", ""] {
            assert_eq!(part(whole), None, "{whole}");
        }
        assert_eq!(Range::From(0).within(0), None);
    }
}
