//! The server: its threads, its socket, and the way to both.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::thread;

use steading_plan::FileFault;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::state::ServerState;
use crate::table::Document;
use crate::{Access, FileError, ServedFile, connection};

/// The threads that serve: one may wait for a disk while another goes on.
const THREADS: usize = 2;

/// How many connections may wait to be taken.
const BACKLOG: u32 = 4096;

/// Descriptors that are left to the rest of the process.
const DESCRIPTORS_LEFT: u64 = 512;

/// A file server. It ends when this is dropped.
#[derive(Debug)]
pub struct FileServer {
    shared: Arc<ServerState>,
    address: SocketAddr,
    /// Whether to listen, and who wants to know that it is so. The server ends with this.
    listen: mpsc::UnboundedSender<(bool, oneshot::Sender<io::Result<()>>)>,
    _thread: thread::JoinHandle<()>,
}

impl FileServer {
    /// Starts a server in threads of its own, in the network namespace of the caller. Each access is
    /// told before the next request of its connection is answered.
    ///
    /// # Errors
    ///
    /// When nobody can listen there.
    pub fn start(address: SocketAddr, accesses: mpsc::Sender<Access>) -> io::Result<Self> {
        let shared = Arc::new(ServerState { table: RwLock::default(), accesses });
        let (listen, asked) = mpsc::unbounded_channel();
        let (told, outcome) = std::sync::mpsc::channel();
        let in_thread = Arc::clone(&shared);
        let body = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("steading-files")
                .enable_all()
                .build();
            let listening =
                runtime.and_then(|runtime| Ok((runtime.block_on(async { bind(address) })?, runtime)));
            match listening {
                Ok((listener, runtime)) => {
                    // The port may have been left to the kernel.
                    let address = listener.local_addr().unwrap_or(address);
                    let _ = told.send(Ok(address));
                    // Among the threads that serve: what takes a connection goes on with it, and need not
                    // wake another.
                    let serving = runtime.spawn(run(address, listener, in_thread, asked));
                    let _ = runtime.block_on(serving);
                    // Who downloads something just now has to do without the rest.
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = told.send(Err(error));
                }
            }
        };
        let thread = thread::Builder::new().name("steading-files".to_owned()).spawn(body)?;
        let address = outcome.recv().map_err(io::Error::other)??;
        Ok(Self { shared, address, listen, _thread: thread })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves one more file.
    ///
    /// # Errors
    ///
    /// When another file has its name.
    pub fn add(&self, file: ServedFile) -> Result<Arc<ServedFile>, FileError> {
        self.shared.change().add(file)
    }

    /// Serves a document under a name of the server's own, in place of the one that had it.
    pub fn set_document(&self, name: &'static str, document: Document) {
        self.shared.change().set_document(name, document);
    }

    /// Serves a file no longer, by its name or digest.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn remove(&self, name: &str) -> Result<Arc<ServedFile>, FileError> {
        self.shared.change().remove(name)
    }

    /// The file of this name or digest.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn find(&self, name: &str) -> Result<Arc<ServedFile>, FileError> {
        self.shared.table().find(name)
    }

    /// All files, by name.
    pub fn files(&self) -> Vec<Arc<ServedFile>> {
        self.shared.table().files().cloned().collect()
    }

    /// Has these faults, by number, and no others.
    ///
    /// # Errors
    ///
    /// When nobody can listen any more.
    pub async fn set_faults(&self, faults: BTreeMap<u32, FileFault>) -> io::Result<()> {
        let listen = {
            let mut table = self.shared.change();
            table.set_faults(faults);
            !table.refuses_all()
        };
        let (told, done) = oneshot::channel();
        self.listen.send((listen, told)).map_err(io::Error::other)?;
        done.await.map_err(io::Error::other)?
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections, while it is to listen, until it is to end.
async fn run(
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<ServerState>,
    mut asked: mpsc::UnboundedReceiver<(bool, oneshot::Sender<io::Result<()>>)>,
) {
    let places = Arc::new(Semaphore::new(most_connections()));
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                // Without a place a connection waits in the kernel.
                Some(listener) => {
                    let place = Arc::clone(&places).acquire_owned().await;
                    (listener.accept().await, place)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            wanted = asked.recv() => match wanted {
                None => return,
                Some((true, told)) if listener.is_none() => {
                    let bound = bind(address).map(|bound| listener = Some(bound));
                    let _ = told.send(bound);
                }
                Some((is_wanted, told)) => {
                    if !is_wanted {
                        listener = None;
                    }
                    let _ = told.send(Ok(()));
                }
            },
            // One that could not be taken has gone by itself.
            (accepted, place) = accepted => if let (Ok((stream, _)), Ok(place)) = (accepted, place) {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection::serve(stream, &shared).await;
                    drop(place);
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Each connection may have a file open.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65536);
    let room = limit.saturating_sub(DESCRIPTORS_LEFT).max(64) / 2;
    usize::try_from(room).unwrap_or(Semaphore::MAX_PERMITS).min(16384)
}
