use camino::Utf8Path;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Nobody interrupts.
fn quiet() -> OwnedFd {
    inotify::init(CreateFlags::CLOEXEC).unwrap()
}

fn queue(dir: &TempDir, cpus: u64) -> Queue {
    let directory = Directory::named(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
    Queue::new(directory, Limits { cpus, memory_mib: 1000, oversubscription: 1 })
}

fn request(group: &str, cpus: u64) -> Request {
    Request::new(group, Needs { cpus, memory_mib: 1 }, None)
}

/// A place that is taken, and no lease yet.
fn waiting(queue: &Queue, group: &str, cpus: u64) -> Waiting {
    let mut waiting = queue.wait(request(group, cpus));
    assert!(waiting.advance().unwrap().is_none(), "{group} has to wait");
    waiting
}

fn lease(queue: &Queue, group: &str, cpus: u64) -> Lease {
    queue.wait(request(group, cpus)).advance().unwrap().unwrap_or_else(|| panic!("{group} fits"))
}

fn groups<'a>(tickets: impl Iterator<Item = &'a Ticket>) -> Vec<String> {
    tickets.map(|ticket| ticket.request.as_ref().unwrap().group.clone()).collect()
}

#[test]
fn who_fits_has_a_lease_at_once_and_the_next_one_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 2);
    let (a, b) = (lease(&queue, "a", 1), lease(&queue, "b", 1));
    let mut c = waiting(&queue, "c", 1);
    let view = queue.view().unwrap();
    assert_eq!(
        (groups(view.holders()), groups(view.waiting())),
        (vec!["a".into(), "b".into()], vec!["c".into()])
    );
    drop(b);
    let c = c.advance().unwrap().expect("its turn has come");
    assert_eq!((a.number, c.number), (1, 3));
}

#[test]
fn nobody_passes_the_first_even_if_they_would_fit() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 2);
    let a = lease(&queue, "a", 1);
    let mut large = waiting(&queue, "large", 2);
    let mut small = waiting(&queue, "small", 1);
    assert!(queue.try_take(&request("more", 1)).unwrap().is_none(), "it is behind them all");
    drop(a);
    let large = large.advance().unwrap().expect("it fits now");
    assert!(small.advance().unwrap().is_none());
    drop(large);
    assert!(small.advance().unwrap().is_some());
}

#[test]
fn one_that_gives_up_is_no_more_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 2);
    let _a = lease(&queue, "a", 1);
    let large = waiting(&queue, "large", 2);
    let mut small = waiting(&queue, "small", 1);
    drop(large);
    let _small = small.advance().unwrap().expect("it fits");
    assert_eq!(queue.directory.numbers().unwrap(), [1, 3]);
}

#[test]
fn one_that_could_go_and_does_not_is_passed_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let a = lease(&queue, "a", 1);
    let mut stopped = waiting(&queue, "stopped", 1);
    let mut behind = waiting(&queue, "behind", 1);
    drop(a);
    assert!(behind.advance().unwrap().is_none(), "it has patience");
    let number = stopped.number().unwrap();
    behind.could_go.insert(number, Instant::now().checked_sub(PATIENCE).unwrap());
    let held = behind.advance().unwrap().expect("no more");
    // It comes back, and sees who is there by now.
    assert!(stopped.advance().unwrap().is_none());
    drop(held);
    assert!(stopped.advance().unwrap().is_some());
}

#[test]
fn a_lease_ends_with_the_last_copy_of_its_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let (fd, stub) = lease(&queue, "a", 1).into_parts();
    let copy = fd.try_clone().unwrap();
    drop(fd);
    let mut b = waiting(&queue, "b", 1);
    drop(copy);
    assert!(stub.path().exists());
    drop(stub);
    let _b = b.advance().unwrap().expect("it is free");
    assert_eq!(queue.directory.numbers().unwrap(), [2], "the stub has removed what was over");
}

#[test]
fn a_stub_leaves_a_ticket_that_is_still_held() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let (_fd, stub) = lease(&queue, "a", 1).into_parts();
    drop(stub);
    assert_eq!(groups(queue.view().unwrap().holders()), ["a"]);
}

#[test]
fn tickets_of_ended_holders_do_not_count_and_are_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    for _ in 0..3 {
        // As one that was killed: nothing is done at its end.
        let (fd, stub) = lease(&queue, "killed", 1).into_parts();
        drop(fd);
        std::mem::forget(stub);
    }
    assert!(queue.view().unwrap().tickets.is_empty());
    let next = lease(&queue, "next", 1);
    assert_eq!(queue.directory.numbers().unwrap(), [next.number]);
}

#[test]
fn a_ticket_that_is_not_understood_is_waited_for_while_it_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 2);
    let path = queue.directory.ticket(1);
    std::fs::write(&path, "of another version\n").unwrap();
    let foreign = File::open(&path).unwrap();
    rustix::fs::flock(&foreign, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut ours = waiting(&queue, "ours", 1);
    assert!(queue.view().unwrap().tickets[0].request.is_none());
    drop(foreign);
    assert!(ours.advance().unwrap().is_some());
}

#[test]
fn a_request_waits_without_a_place_while_the_directory_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let lock = queue.lock().unwrap();
    assert!(lock.is_some());
    let mut ours = waiting(&queue, "ours", 1);
    assert_eq!(ours.number(), None);
    drop(lock);
    assert!(ours.advance().unwrap().is_some());
}

#[test]
fn the_end_of_a_holder_wakes_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let a = lease(&queue, "a", 1);
    let mut b = waiting(&queue, "b", 1);
    // What was told until now is over, and nothing is due for long.
    let nobody = quiet();
    b.rest(&nobody, Duration::ZERO).unwrap();
    b.delay = Duration::from_secs(3600);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            loop {
                if let Some(lease) = b.advance().unwrap() {
                    return lease.number;
                }
                assert!(!b.rest(&nobody, Duration::from_secs(3600)).unwrap());
            }
        });
        drop(a);
        assert_eq!(waiter.join().unwrap(), 2);
    });
}

#[test]
fn an_interrupt_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let _a = lease(&queue, "a", 1);
    let mut b = waiting(&queue, "b", 1);
    b.delay = Duration::from_secs(3600);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &theirs, b"!").unwrap();
    assert!(b.rest(&ours, Duration::from_secs(3600)).unwrap());
}

#[test]
fn a_directory_without_room_is_told_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir, 1);
    let error = queue.failed("make a ticket")(io::ErrorKind::StorageFull.into());
    assert!(error.to_string().contains("\nhint: free some room there"), "{error}");
}

/// What may happen, to whom.
#[derive(Clone, Copy, Debug)]
enum Act {
    Come(u64),
    /// One that waits looks whether it is its turn.
    Look(usize),
    /// A holder ends.
    End(usize),
    /// One that waits is killed.
    Die(usize),
    TryTake(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1..5u64).prop_map(Act::Come),
        (0..8usize).prop_map(Act::Look),
        (0..8usize).prop_map(Act::End),
        (0..8usize).prop_map(Act::Die),
        (1..5u64).prop_map(Act::TryTake),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Never more than the limit is held, nobody passes one that came before, and at the end all that are
    /// alive get theirs.
    #[test]
    fn the_limit_and_the_order_hold_whatever_happens(acts in acts()) {
        const CPUS: u64 = 4;
        let dir = tempfile::tempdir().unwrap();
        let queue = queue(&dir, CPUS);
        let (mut waiting, mut held): (Vec<Waiting>, Vec<(u64, Lease)>) = (Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Come(cpus) => waiting.push(queue.wait(request("g", cpus))),
                Act::Look(at) if at < waiting.len() => {
                    if let Some(lease) = waiting[at].advance().unwrap() {
                        let one = waiting.remove(at);
                        prop_assert!(waiting.iter().filter_map(Waiting::number).all(|number| number > lease.number));
                        held.push((one.request.needs.cpus, lease));
                    }
                }
                Act::End(at) if at < held.len() => drop(held.remove(at)),
                Act::Die(at) if at < waiting.len() => drop(waiting.remove(at)),
                Act::TryTake(cpus) => {
                    if let Some(lease) = queue.try_take(&request("t", cpus)).unwrap() {
                        prop_assert!(waiting.iter().all(|one| one.number().is_none()));
                        held.push((cpus, lease));
                    }
                }
                _ => {}
            }
            prop_assert!(held.iter().map(|(cpus, _)| cpus).sum::<u64>() <= CPUS);
        }
        let mut left = waiting.len();
        held.clear();
        while left > 0 {
            for at in (0..waiting.len()).rev() {
                if let Some(lease) = waiting[at].advance().unwrap() {
                    drop(lease);
                    waiting.remove(at);
                }
            }
            prop_assert!(waiting.len() < left, "somebody is always next");
            left = waiting.len();
        }
    }
}
