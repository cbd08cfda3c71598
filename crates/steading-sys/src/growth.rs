//! Tells when a file was written to (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file that may grow.
#[derive(Debug)]
pub struct Growth {
    /// None where the kernel gives no more of them, or not for this file: then nothing is told.
    events: Option<AsyncFd<OwnedFd>>,
}

impl Growth {
    /// Watches a file from now on. To be called with an event loop.
    pub fn of(file: &Path) -> Self {
        Self { events: watch(file).ok() }
    }

    /// Waits until it was written to since the last time.
    pub async fn wait(&self) {
        let Some(events) = &self.events else { return std::future::pending().await };
        loop {
            // There is no event loop any more, and nobody who waits.
            let Ok(mut ready) = events.readable().await else { return std::future::pending().await };
            if ready.try_io(|events| drain(events.get_ref())).is_ok() {
                return;
            }
        }
    }
}

fn watch(file: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, file, WatchFlags::MODIFY)?;
    // SAFETY: an OwnedFd is open until it is dropped, and it is dropped with the AsyncFd.
    unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }.map_err(io::Error::from)
}

/// Takes what was told; only that there was something matters.
fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    let mut took_any = false;
    loop {
        match reader.next() {
            Ok(_) => took_any = true,
            Err(Errno::AGAIN) if took_any => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_growth_is_told_once_however_many_writes_it_took() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let growth = Growth::of(file.path());
        for _ in 0..2 {
            file.write_all(b"a").unwrap();
            file.write_all(b"b").unwrap();
            timeout(Duration::from_secs(30), growth.wait()).await.expect("it has grown");
            assert!(timeout(Duration::from_millis(50), growth.wait()).await.is_err(), "it has not");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_watched_tells_nothing() {
        let growth = Growth::of(Path::new("/no/such/file"));
        assert!(timeout(Duration::from_millis(10), growth.wait()).await.is_err());
    }
}
