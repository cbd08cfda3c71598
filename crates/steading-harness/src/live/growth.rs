//! Tells when a file was written to (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use camino::Utf8Path;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// A file that may grow.
pub(crate) struct Growth {
    /// None where the kernel gives no more of them, or not for this file: then nothing is told.
    events: Option<AsyncFd<OwnedFd>>,
}

impl Growth {
    /// Watches a file from now on. To be called with an event loop.
    pub(crate) fn of(file: &Utf8Path) -> Self {
        Self { events: watch(file).ok() }
    }

    /// Waits until it was written to since the last time.
    pub(crate) async fn wait(&self) {
        let Some(events) = &self.events else { return std::future::pending().await };
        loop {
            // A descriptor of our own is always readable in the end.
            let Ok(mut ready) = events.readable().await else { continue };
            if ready.try_io(|events| drain(events.get_ref())).is_ok() {
                return;
            }
        }
    }
}

fn watch(file: &Utf8Path) -> io::Result<AsyncFd<OwnedFd>> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, file.as_std_path(), WatchFlags::MODIFY)?;
    AsyncFd::new(events)
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
        let growth = Growth::of(Utf8Path::from_path(file.path()).unwrap());
        for _ in 0..2 {
            file.write_all(b"a").unwrap();
            file.write_all(b"b").unwrap();
            timeout(Duration::from_secs(30), growth.wait()).await.expect("it has grown");
            assert!(timeout(Duration::from_millis(50), growth.wait()).await.is_err(), "it has not");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_watched_tells_nothing() {
        let growth = Growth::of("/no/such/file".into());
        assert!(timeout(Duration::from_millis(10), growth.wait()).await.is_err());
    }
}
