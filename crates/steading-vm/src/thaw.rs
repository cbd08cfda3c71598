//! Telling a guest that it goes on after a freeze, so that it reseeds its random numbers and sets its clock.
//!
//! There is a port for it, [`THAW_PORT`](steading_plan::THAW_PORT), and not the guest agent: a fork's QEMU process has yet to translate all
//! that its guest runs, and the agent starts a process, speaks JSON and writes to the journal for either.
//! A program that reads one line and does a few system calls costs next to nothing.
//!
//! The line is `SEED [NANOSECONDS]`: 32 bytes in hexadecimal, and the time since 1970-01-01 00:00 UTC, if the
//! clock is to be set. The answer is `ok`, or why it is not.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The longest answer that is read.
const ANSWER_MAX: u64 = 1000;

/// New random numbers, for a guest.
pub type Seed = [u8; 32];

/// The host's end of the port.
#[derive(Debug)]
pub struct ThawPort(Mutex<UnixStream>);

impl ThawPort {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(Mutex::new(stream))
    }

    /// Has the guest seed its random numbers, and set its clock if a time is given. Each port can be used once,
    /// after which an answer may be on its way that nobody waited for.
    ///
    /// # Errors
    ///
    /// When nobody answers within `limit`, or the guest says that it cannot.
    pub async fn thaw(&self, seed: &Seed, time: Option<Timestamp>, limit: Duration) -> io::Result<()> {
        let mut stream = self.0.lock().await;
        let told = async {
            stream.write_all(request(seed, time).as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new((&mut *stream).take(ANSWER_MAX)).read_line(&mut answer).await?;
            Ok(answer)
        };
        let answer: io::Result<String> = timeout(limit, told).await?;
        match answer?.trim_end() {
            "ok" => Ok(()),
            "" => Err(io::ErrorKind::UnexpectedEof.into()),
            other => Err(io::Error::other(format!("the guest says: {other}"))),
        }
    }
}

fn request(seed: &Seed, time: Option<Timestamp>) -> String {
    use std::fmt::Write as _;
    let mut line = String::new();
    for byte in seed {
        write!(line, "{byte:02x}").expect("a String takes all");
    }
    if let Some(time) = time {
        write!(line, " {}", time.as_nanosecond()).expect("a String takes all");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn thaw(answer: &str, limit: Duration) -> (String, io::Result<()>) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let port = ThawPort::new(ours);
        let mut theirs = BufReader::new(theirs);
        theirs.write_all(answer.as_bytes()).await.expect("an answer");
        let time = Timestamp::from_nanosecond(1_700_000_000_123_456_789).expect("a time");
        let outcome = port.thaw(&[0xa5; 32], Some(time), limit).await;
        let mut asked = String::new();
        theirs.read_line(&mut asked).await.expect("a line");
        (asked, outcome)
    }

    #[tokio::test]
    async fn the_guest_gets_a_seed_and_the_time() {
        let (asked, outcome) = thaw("ok\n", LIMIT).await;
        outcome.expect("it is done");
        assert_eq!(asked, format!("{} 1700000000123456789\n", "a5".repeat(32)));
    }

    #[tokio::test]
    async fn what_the_guest_cannot_do_is_an_error() {
        let (_, outcome) = thaw("error: /dev/urandom: Operation not permitted\n", LIMIT).await;
        assert!(outcome.expect_err("it failed").to_string().contains("Operation not permitted"));
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_not_waited_for() {
        let (_, outcome) = thaw("", Duration::from_millis(10)).await;
        assert_eq!(outcome.expect_err("nobody answered").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_read_for_ever() {
        let (_, outcome) = thaw(&"x".repeat(5000), LIMIT).await;
        assert!(outcome.expect_err("it is none").to_string().len() < 1100);
    }
}
