//! Pipes between QEMU and the files that its state is written to and read from.
//!
//! QEMU up to 9 writes its state to any descriptor; later ones refuse files there (`fd:` is for
//! sockets and pipes), and 7.2 has no other way to write to a file that it cannot open by a path.
//! Pipes they all take.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much of a stream a pipe may hold, and is read at once, in bytes.
pub(super) const BUFFER: usize = 256 * 1024;

/// A pipe for a stream from QEMU: our end, and QEMU's.
pub(super) fn from_qemu() -> io::Result<(File, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    // It needs not be as large as may be allowed.
    let _ = fcntl_setpipe_size(&theirs, BUFFER);
    Ok((ours.into(), theirs))
}

/// A descriptor for QEMU to write to, all of which goes into `file`. The task ends when QEMU has
/// closed it.
pub(super) fn into_file(mut file: File) -> io::Result<(OwnedFd, JoinHandle<io::Result<()>>)> {
    let (mut ours, theirs) = from_qemu()?;
    let copying = spawn_blocking(move || io::copy(&mut ours, &mut file).map(drop));
    Ok((theirs, copying))
}

/// A descriptor for QEMU to read from, from which all of `file` comes. It is written to until it has
/// been read, or QEMU has ended.
pub(super) fn out_of_file(mut file: File) -> io::Result<OwnedFd> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut ours = File::from(ours);
    // That a QEMU which ended did not read it all is told by its end.
    spawn_blocking(move || io::copy(&mut file, &mut ours).map(drop));
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    /// More than a pipe holds.
    fn state() -> Vec<u8> {
        (0..3 * BUFFER).map(|index| u8::try_from(index % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_stream_arrives_as_it_was() {
        let mut file = tempfile::tempfile().unwrap();
        let (theirs, copying) = into_file(file.try_clone().unwrap()).unwrap();
        spawn_blocking(move || File::from(theirs).write_all(&state())).await.unwrap().unwrap();
        copying.await.unwrap().unwrap();
        file.rewind().unwrap();
        let theirs = out_of_file(file).unwrap();
        let mut read = Vec::new();
        let read = spawn_blocking(move || File::from(theirs).read_to_end(&mut read).map(|_| read));
        assert!(read.await.unwrap().unwrap() == state());
    }

    #[tokio::test]
    async fn a_reader_that_ends_early_ends_the_writing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&state()).unwrap();
        file.rewind().unwrap();
        drop(out_of_file(file).unwrap());
        // The runtime waits for its blocking tasks when it ends: this test would not.
    }
}
