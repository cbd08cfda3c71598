//! The directory of tickets, which all users of a machine share.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::BrokerError;

/// Where tickets are when nobody says otherwise. The first is for who administers the machine: it is
/// used if it exists. The second every user can make, and sandboxes that hide `/tmp` mostly show it.
const DEFAULTS: [&str; 3] = ["/run/steading-broker", "/dev/shm/steading-broker", "/tmp/steading-broker"];

/// For all to write, and for each to remove only what is theirs.
const SHARED: u32 = 0o1777;

/// The type numbers of file systems of several machines (linux/magic.h, statfs(2)): NFS, SMB, CIFS,
/// SMB2, AFS, Ceph. What happens there on another machine is told to nobody here.
const REMOTE: [u64; 6] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x00c3_6400];

/// The directory of tickets.
#[derive(Clone, Debug)]
pub struct Directory {
    path: Utf8PathBuf,
}

impl Directory {
    /// The one that was named.
    ///
    /// # Errors
    ///
    /// When it is not there and cannot be made, or is not fit.
    pub fn named(path: &Utf8Path) -> Result<Self, BrokerError> {
        const HINT: &str = "\nhint: name a local directory that every user may write to, by STEADING_BROKER_DIR or \
                            --broker-dir; or have groups not wait for each other, by --no-broker";
        let failed = |source| BrokerError::Directory { path: path.to_owned(), hint: HINT, source };
        if !path.exists() {
            make(path, 0o777).map_err(failed)?;
        }
        let directory = Self { path: path.to_owned() };
        directory.check(failed)?;
        Ok(directory)
    }

    /// The one that all use who name none.
    ///
    /// # Errors
    ///
    /// When none can be used.
    pub fn shared() -> Result<Self, BrokerError> {
        let mut last = None;
        for (at, path) in DEFAULTS.into_iter().enumerate() {
            let path = Utf8Path::new(path);
            let failed = |source| BrokerError::Directory { path: path.to_owned(), hint: "", source };
            if !path.exists() {
                let is_administrators = at == 0;
                if is_administrators {
                    continue;
                }
                if let Err(source) = make(path, SHARED) {
                    last = Some(failed(source));
                    continue;
                }
            }
            let directory = Self { path: path.to_owned() };
            match directory.check(failed) {
                Ok(()) => return Ok(directory),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(BrokerError::Unfit { path: DEFAULTS[1].into(), why: "it cannot be made" }))
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Whether it is a local directory that can be written to.
    fn check(&self, failed: impl Fn(io::Error) -> BrokerError) -> Result<(), BrokerError> {
        let file_system = rustix::fs::statfs(self.path.as_std_path()).map_err(|e| failed(e.into()))?;
        if REMOTE.contains(&u64::from_ne_bytes(file_system.f_type.to_ne_bytes())) {
            return Err(BrokerError::Unfit {
                path: self.path.clone(),
                why: "it is on a network file system\nhint: the machine's own CPUs and memory are shared out, \
                      so name a directory of this machine",
            });
        }
        if !fs::symlink_metadata(&self.path).map_err(&failed)?.is_dir() {
            return Err(failed(Errno::NOTDIR.into()));
        }
        let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let can = rustix::fs::accessat(CWD, self.path.as_std_path(), access, rustix::fs::AtFlags::EACCESS);
        can.map_err(|error| failed(error.into()))
    }

    /// Takes the lock by which tickets are numbered and granted; none while another has it. It is
    /// free again with the file.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(self.path.as_std_path(), flags, Mode::empty())?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The numbers of all tickets, dead ones included, in their order.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The path of a ticket.
    pub(crate) fn ticket(&self, number: u64) -> Utf8PathBuf {
        self.path.join(format!("{number:010}.ticket"))
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".ticket")?.parse().ok()
}

/// Makes a directory that appears with its mode, whatever the umask is. That another was quicker is
/// no error.
fn make(path: &Utf8Path, permissions: u32) -> io::Result<()> {
    if permissions != SHARED {
        // A named one is the caller's own affair.
        return std::fs::DirBuilder::new().recursive(true).mode(permissions).create(path);
    }
    let parent = path.parent().unwrap_or("/".into());
    let aside = parent.join(format!(
        ".steading-broker-{}-{}",
        std::process::id(),
        rustix::process::geteuid().as_raw()
    ));
    match fs::create_dir(&aside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let made = fs::set_permissions(&aside, std::fs::Permissions::from_mode(permissions)).and_then(|()| {
        Ok(rustix::fs::renameat_with(
            CWD,
            aside.as_std_path(),
            CWD,
            path.as_std_path(),
            RenameFlags::NOREPLACE,
        )?)
    });
    match made {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = fs::remove_dir(&aside);
            if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_directory_is_for_all_whatever_the_umask_and_whoever_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("shared");
        make(&path, SHARED).unwrap();
        make(&path, SHARED).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, SHARED);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_directory_is_refused_with_advice() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Directory::named(Utf8Path::from_path(file.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }

    #[test]
    fn only_tickets_have_numbers() {
        assert_eq!(number("0000000012.ticket"), Some(12));
        assert_eq!(number("12.ticket.swp"), None);
        assert_eq!(number("x.ticket"), None);
    }

    #[test]
    fn the_lock_is_one_for_all_and_ends_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::named(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
        let lock = directory.try_lock().unwrap();
        assert!(lock.is_some());
        assert!(directory.try_lock().unwrap().is_none());
        drop(lock);
        assert!(directory.try_lock().unwrap().is_some());
    }
}
