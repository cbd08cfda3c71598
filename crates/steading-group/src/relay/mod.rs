//! The relay between a VM's TAP and the bridge, where frames are to be held.

mod line;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Instant;

use steading_net::Network;
use steading_plan::IfName;
use steading_plan::fault::wiring::{Wire, Wiring};
use steading_sys::tap::TapEnd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::GroupError;

use line::{Chance, Line};

/// The largest frame with its header, and more than any guest hands over.
const FRAME_MAX: usize = 1 << 17;

/// How many frames are taken before others have their turn.
const FRAMES_AT_ONCE: usize = 64;

/// How often frames are taken at the end: more than the queue of a TAP holds (500, `TUN_READQ_SIZE` in drivers/net/tun.c).
const LAST_TAKES: usize = 16;

/// Every relay of a group.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    running: BTreeMap<IfName, Relay>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Relay {
    wire: Wire,
    /// Gone when it is to end.
    orders: mpsc::Sender<Wire>,
    /// Closed when it has ended.
    ended: mpsc::Receiver<()>,
}

impl Relays {
    /// Which TAPs have one.
    pub(crate) fn taps(&self) -> impl Iterator<Item = (&IfName, &Wire)> {
        self.running.iter().map(|(tap, relay)| (tap, &relay.wire))
    }

    /// Makes those that are missing, and tells all what they are to do. What cannot be made is not
    /// there afterwards; those that were stay as they are then.
    pub(crate) async fn ensure(&mut self, wiring: &Wiring, network: &Network) -> Result<(), GroupError> {
        let missing = wiring.iter().filter(|(tap, _)| !self.running.contains_key(*tap));
        let missing: Vec<_> = missing.map(|(tap, wire)| (tap.clone(), wire.clone())).collect();
        let mut made = Vec::new();
        for (tap, wire) in missing {
            match self.make(&tap, wire, network).await {
                Ok(()) => made.push(tap),
                Err(error) => {
                    for tap in made {
                        self.remove(&tap, network).await?;
                    }
                    return Err(error);
                }
            }
        }
        for (tap, wire) in wiring {
            if let Some(relay) = self.running.get_mut(tap).filter(|relay| relay.wire != *wire) {
                // One that has ended is not there any more, nor is its network.
                let _ = relay.orders.send(wire.clone()).await;
                relay.wire = wire.clone();
            }
        }
        Ok(())
    }

    /// Removes those that are not wanted any more. What they hold arrives at once.
    pub(crate) async fn retain(&mut self, wiring: &Wiring, network: &Network) -> Result<(), GroupError> {
        let unwanted: Vec<IfName> =
            self.running.keys().filter(|tap| !wiring.contains_key(*tap)).cloned().collect();
        for tap in unwanted {
            self.remove(&tap, network).await?;
        }
        Ok(())
    }

    async fn make(&mut self, tap: &IfName, wire: Wire, network: &Network) -> Result<(), GroupError> {
        let (inner, outer) = (TapEnd::create(&wire.inner)?, TapEnd::create(&wire.outer)?);
        network.add_wire(&wire.bridge).await?;
        let attached = async {
            network.attach_to_wire(&wire.inner, &wire.bridge).await?;
            network.attach(&wire.outer).await?;
            network.attach_to_wire(tap, &wire.bridge).await
        };
        if let Err(error) = attached.await {
            network.attach(tap).await?;
            network.remove_wire(&wire.bridge).await?;
            return Err(error.into());
        }
        let (orders, asked) = mpsc::channel(1);
        let (alive, ended) = mpsc::channel(1);
        let mut task = RelayTask::new(inner, outer);
        task.follow(wire.clone());
        self.tasks.spawn(task.run(asked, alive));
        self.running.insert(tap.clone(), Relay { wire, orders, ended });
        Ok(())
    }

    async fn remove(&mut self, tap: &IfName, network: &Network) -> Result<(), GroupError> {
        let Some(Relay { wire, orders, mut ended }) = self.running.remove(tap) else { return Ok(()) };
        drop(orders);
        // Nobody sends: it is closed with the task, which has let go of its ends by then.
        ended.recv().await;
        network.attach(tap).await?;
        network.remove_wire(&wire.bridge).await?;
        Ok(())
    }
}

struct RelayTask {
    inner: TapEnd,
    outer: TapEnd,
    sent: Line,
    received: Line,
    buffer: Vec<u8>,
}

impl RelayTask {
    fn new(inner: TapEnd, outer: TapEnd) -> Self {
        let line = || Line::new(Chance::new(RandomState::new().build_hasher().finish()));
        Self { inner, outer, sent: line(), received: line(), buffer: vec![0; FRAME_MAX] }
    }

    fn follow(&mut self, wire: Wire) {
        self.sent.set(wire.sent);
        self.received.set(wire.received);
    }

    /// Passes frames on until nobody has orders any more.
    async fn run(mut self, mut orders: mpsc::Receiver<Wire>, _alive: mpsc::Sender<()>) {
        loop {
            let deadline = [self.sent.deadline(), self.received.deadline()].into_iter().flatten().min();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(wire) => self.follow(wire),
                    None => break,
                },
                Ok(()) = self.inner.arrival() => take(&self.inner, &mut self.buffer, &mut self.sent),
                Ok(()) = self.outer.arrival() => take(&self.outer, &mut self.buffer, &mut self.received),
                () = due => {}
            }
            let now = Instant::now();
            while let Some(frame) = self.sent.leaving(now) {
                self.outer.give(&frame);
            }
            while let Some(frame) = self.received.leaving(now) {
                self.inner.give(&frame);
            }
            tokio::task::yield_now().await;
        }
        // What has arrived and was not taken yet is on its way, too. Somebody may send without an end.
        for _ in 0..LAST_TAKES {
            take(&self.inner, &mut self.buffer, &mut self.sent);
            take(&self.outer, &mut self.buffer, &mut self.received);
        }
        while let Some(frame) = self.sent.next() {
            self.outer.give(&frame);
        }
        while let Some(frame) = self.received.next() {
            self.inner.give(&frame);
        }
    }
}

/// Takes what has arrived at an end, up to what is fair.
fn take(end: &TapEnd, buffer: &mut [u8], line: &mut Line) {
    for _ in 0..FRAMES_AT_ONCE {
        let Some(length) = end.take(buffer) else { return };
        line.take(&buffer[..length], Instant::now());
    }
}
