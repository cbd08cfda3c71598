//! What a guest asks of the file server: the heads of requests, and ranges in them.

use steading_files::{FileRequest, Range};

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "files",
    check,
    seeds: &[
        b"GET /update.img HTTP/1.1\r\nHost: files\r\nRange: bytes=0-499\r\nIf-Range: \"x\"\r\n\r\n",
        b"HEAD http://[fd00::1]:8080/a%20b?x#y HTTP/1.0\r\nConnection: keep-alive, x\r\nIf-None-Match: *\r\n\r\nGET / ",
        b"GET /%ff%00%zz HTTP/1.1\r\nRange: bytes=-18446744073709551616\r\nContent-Length: 1\r\n\r\nx",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    words: &[
        "GET ", "HEAD ", "HTTP/1.1", "\r\n", "\r\n\r\n", "Range: ", "bytes=", "0-", "-1", "18446744073709551615",
        "Connection: close", "If-None-Match: ", "%41", "://",
    ],
};

/// The longest head that the server takes.
const HEAD_MAX: usize = 16 * 1024;

/// Reads the bytes as a head, whole and as it arrives, and what follows the first line as a range.
pub fn check(bytes: &[u8]) {
    let whole = FileRequest::parse(bytes);
    if let Ok(Some((_, length))) = &whole {
        assert!((1..=bytes.len().min(HEAD_MAX)).contains(length), "a head of {length} bytes");
        // What follows is another request, and has no part in this one.
        assert_eq!(FileRequest::parse(&bytes[..*length]), whole);
        for cut in [length / 2, length - 1] {
            let part = FileRequest::parse(&bytes[..cut]);
            assert!(part == Ok(None), "a head is complete before its end: {part:?}");
        }
    }
    for line in String::from_utf8_lossy(bytes).lines() {
        let value = line.split_once(": ").map_or(line, |(_, value)| value);
        let Some(range) = Range::parse(value) else { continue };
        for size in [0, 1, 100, u64::MAX] {
            let Some((first, length)) = range.within(size) else { continue };
            assert!(length > 0, "a part of nothing");
            assert!(first.checked_add(length).is_some_and(|end| end <= size), "a part behind the end");
        }
    }
}
