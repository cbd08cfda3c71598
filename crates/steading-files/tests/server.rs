//! The server, asked over a real socket.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use camino::Utf8PathBuf;
use steading_files::{Access, Document, FileError, FileServer, ServedFile, digest};
use steading_plan::{FileFault, FileSource, Sha256};
use tokio::sync::mpsc;

struct Fixture {
    dir: tempfile::TempDir,
    server: FileServer,
    accesses: mpsc::Receiver<Access>,
    runtime: tokio::runtime::Runtime,
}

/// A text of several pieces of the server's own.
fn long() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(|number| (number % 251).to_le_bytes()).take(5_000_001).collect()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, accesses) = mpsc::channel(100);
        let server = FileServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), sender).unwrap();
        let fixture = Self { dir: tempfile::tempdir().unwrap(), server, accesses, runtime };
        fixture.add("short", b"0123456789").unwrap();
        fixture.add("long", &long()).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::try_from(self.dir.path().join(name)).unwrap()
    }

    fn add(&self, name: &str, content: &[u8]) -> Result<(), FileError> {
        fs_err::write(self.path(name), content).unwrap();
        let file = ServedFile::read(&FileSource::new(self.path(name)), digest)?;
        self.server.add(file).map(drop)
    }

    fn faults(&self, faults: &[FileFault]) {
        let numbered: BTreeMap<_, _> = (1..).zip(faults.iter().cloned()).collect();
        self.runtime.block_on(self.server.set_faults(numbered)).unwrap();
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.server.address())
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &str) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer { status, head, body: all[end + 4..].to_vec() })
    }

    fn get(&self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("GET /{path} HTTP/1.1\r\nHost: files\r\n{fields}")).unwrap()
    }

    fn access(&mut self) -> Access {
        self.accesses.blocking_recv().expect("an access")
    }
}

#[test]
fn a_file_is_served_by_name_and_by_digest() {
    let fixture = Fixture::new();
    for content in [&b"0123456789"[..], &long()] {
        let sha256 = Sha256::of(content);
        let name = if content.len() == 10 { "short" } else { "long" };
        for path in [name.to_owned(), sha256.to_string()] {
            let answer = fixture.get(&path, "");
            assert_eq!((answer.status, answer.field("ETag")), (200, Some(&*format!("\"{sha256}\""))));
            assert_eq!(answer.field("Content-Length"), Some(&*content.len().to_string()));
            assert!(answer.body == content, "{path}");
        }
    }
}

#[test]
fn ranges_are_served_and_those_that_are_none_are_refused_with_the_size() {
    let fixture = Fixture::new();
    let part = fixture.get("long", "Range: bytes=1000000-\r\n");
    assert_eq!(part.status, 206);
    assert_eq!(part.field("Content-Range"), Some("bytes 1000000-5000000/5000001"));
    assert!(part.body == long()[1_000_000..]);
    let part = fixture.get("short", "Range: bytes=-3\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"789"[..]));
    let none = fixture.get("short", "Range: bytes=10-\r\n");
    assert_eq!((none.status, none.field("Content-Range"), none.body.len()), (416, Some("bytes */10"), 0));
    let several = fixture.get("short", "Range: bytes=0-1,5-6\r\n");
    assert_eq!((several.status, several.body.len()), (200, 10));
}

#[test]
fn a_range_of_what_is_no_longer_served_is_the_whole() {
    let fixture = Fixture::new();
    let tag = format!("\"{}\"", Sha256::of("0123456789"));
    let same = fixture.get("short", &format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
    assert_eq!((same.status, same.body.as_slice()), (206, &b"56789"[..]));
    let other = fixture.get("short", "Range: bytes=5-\r\nIf-Range: \"another\"\r\n");
    assert_eq!((other.status, other.body.len()), (200, 10));
    let known = fixture.get("short", &format!("If-None-Match: \"x\", {tag}\r\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[test]
fn a_head_tells_the_size_and_sends_nothing() {
    let fixture = Fixture::new();
    let answer = fixture.ask("HEAD /long HTTP/1.1\r\n").unwrap();
    assert_eq!((answer.status, answer.field("Content-Length"), answer.body.len()), (200, Some("5000001"), 0));
    assert_eq!(answer.field("Accept-Ranges"), Some("bytes"));
    let other = fixture.ask("POST /short HTTP/1.1\r\nContent-Length: 0\r\n").unwrap();
    assert_eq!((other.status, other.field("Allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let fixture = Fixture::new();
    let mut stream = fixture.connect().unwrap();
    let ask = b"GET /short HTTP/1.1\r\n\r\n";
    // Both at once: the second waits its turn.
    stream.write_all(&[&ask[..], ask].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("0123456789").count(), 2, "{all}");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let fixture = Fixture::new();
    let answer = fixture.get("lnog", "");
    let said = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status, 404);
    assert!(said.contains("\"lnog\"") && said.contains("there are: long, short"), "{said}");
    let list = fixture.get("", "");
    assert!(String::from_utf8(list.body).unwrap().contains(&format!("{}  long\n", Sha256::of(long()))));
    let broken = fixture.ask("\x16\x03\x01\r\n");
    assert!(broken.is_ok_and(|answer| answer.status == 400));
}

#[test]
fn a_file_that_vanished_or_changed_is_gone_and_the_others_are_not() {
    let mut fixture = Fixture::new();
    fs_err::remove_file(fixture.path("long")).unwrap();
    let answer = fixture.get("long", "");
    assert_eq!(answer.status, 410);
    assert!(String::from_utf8(answer.body).unwrap().contains("has vanished"));
    assert!(fixture.access().trouble.is_some_and(|trouble| trouble.contains("has vanished")));
    fs_err::write(fixture.path("short"), "012345678X").unwrap();
    assert_eq!(fixture.get("short", "").status, 410);
    // Added again, it has another digest; the name must be free for that.
    assert!(matches!(fixture.add("short", b"another"), Err(FileError::Taken { .. })));
    fixture.server.remove("short").unwrap();
    fixture.add("short", b"another").unwrap();
    assert_eq!(fixture.get("short", "").body, b"another");
    assert_eq!(fixture.get(&Sha256::of("0123456789").to_string(), "").status, 404);
}

#[test]
fn every_access_is_told() {
    let mut fixture = Fixture::new();
    fixture.get("short", "Range: bytes=2-4\r\n");
    let access = fixture.access();
    assert_eq!((access.file.as_str(), access.method.as_str(), access.status), ("short", "GET", Some(206)));
    assert_eq!((access.first, access.announced, access.sent), (2, 3, 3));
    assert!(access.is_whole() && access.peer.is_loopback());
    fixture.faults(&[FileFault::cut_after(2)]);
    fixture.get("short", "");
    let access = fixture.access();
    assert_eq!((access.announced, access.sent, access.faults.as_slice()), (10, 2, &[1][..]));
    assert!(!access.is_whole());
}

#[test]
fn an_answer_that_is_cut_can_be_resumed_from_there() {
    let fixture = Fixture::new();
    fixture.faults(&[FileFault::cut_after(2_000_000).of("long")]);
    let mut got = Vec::new();
    let mut tries = 0;
    while got.len() < long().len() {
        let answer = fixture.get("long", &format!("Range: bytes={}-\r\n", got.len()));
        assert_eq!(answer.status, 206);
        got.extend(answer.body);
        tries += 1;
    }
    assert!(got == long());
    assert_eq!(tries, 3);
    assert_eq!(fixture.get("short", "").body.len(), 10);
}

#[test]
fn wrong_bytes_are_the_same_in_whatever_part_they_are_asked_for() {
    let fixture = Fixture::new();
    fixture.faults(&[FileFault::corrupt()]);
    let whole = fixture.get("long", "").body;
    assert_eq!(whole.len(), long().len());
    let wrong = whole.iter().zip(long()).filter(|(got, right)| *got != right).count();
    assert_eq!(wrong, long().len().div_ceil(4096));
    assert!(fixture.get("long", "Range: bytes=4000-9000\r\n").body == whole[4000..=9000]);
    fixture.faults(&[]);
    assert!(fixture.get("long", "").body == long());
}

#[test]
fn a_status_is_that_which_was_asked_for() {
    let fixture = Fixture::new();
    fixture.faults(&[FileFault::status(503).of(Sha256::of("0123456789").to_string())]);
    assert_eq!(fixture.get("short", "").status, 503);
    assert_eq!(fixture.get("long", "").status, 200);
}

#[test]
fn connections_are_refused_or_reset_until_that_is_undone() {
    let fixture = Fixture::new();
    fixture.faults(&[FileFault::refuse()]);
    assert_eq!(fixture.connect().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    fixture.faults(&[FileFault::refuse().of("long")]);
    assert_eq!(fixture.get("short", "").status, 200);
    let reset = fixture.ask("GET /long HTTP/1.1\r\n").err().expect("it is reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    fixture.faults(&[]);
    assert_eq!(fixture.get("long", "").status, 200);
}

#[test]
fn a_slow_answer_arrives_whole() {
    let mut fixture = Fixture::new();
    fixture.faults(&[FileFault::slow(100_000_000), FileFault::corrupt().of("short")]);
    assert!(fixture.get("long", "").body == long());
    assert_eq!(fixture.access().faults, [1]);
    assert_eq!(fixture.get("short", "").body, [!b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9']);
}

#[test]
fn many_clients_are_served_at_once() {
    let mut fixture = Fixture::new();
    let address = fixture.server.address();
    let long = long();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"GET /long HTTP/1.0\r\n\r\n").unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                assert!(all.ends_with(&long), "{}", all.len());
            });
        }
    });
    for _ in 0..60 {
        assert!(fixture.access().is_whole());
    }
}

#[test]
fn a_document_is_served_as_it_is_now_and_is_not_told() {
    let mut fixture = Fixture::new();
    for content in ["[1]", "[1,2]"] {
        let document = Document { content_type: "application/json", content: content.into() };
        fixture.server.set_document("list.json", document);
        let answer = fixture.get("list.json", "");
        assert_eq!((answer.status, answer.body.as_slice()), (200, content.as_bytes()));
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
    }
    assert_eq!(fixture.get("short", "").status, 200);
    assert_eq!(fixture.access().file, "short");
}

#[test]
fn a_file_goes_before_a_document_of_the_same_name() {
    let fixture = Fixture::new();
    let document = Document { content_type: "text/plain", content: b"document".to_vec() };
    fixture.server.set_document("short", document);
    assert_eq!(fixture.get("short", "").body, b"0123456789");
}
