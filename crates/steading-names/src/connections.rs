//! Connections, so many at once and no more.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Serves connections for as long as it is let, this many at once. Others wait in the kernel.
pub(crate) async fn serve_all<F>(
    listener: &TcpListener,
    places: usize,
    serve: impl Fn(TcpStream) -> F,
) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    let mut running = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            // One that could not be taken has gone by itself.
            (accepted, place) = accepted => if let Ok((stream, _)) = accepted {
                let serving = serve(stream);
                running.spawn(async move {
                    serving.await;
                    drop(place);
                });
            },
            Some(_) = running.join_next() => {}
        }
    }
}
