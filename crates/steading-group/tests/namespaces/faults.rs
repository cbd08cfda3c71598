//! Faults in a real bridge: frames go in by the TAPs of some VMs, and come out by those of others.
//! Where a time is looked at, it is one that a frame must be held for at least.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use steading_api::FaultRequest;
use steading_net::{Network, replace_rules};
use steading_plan::{Effect, Fault, IfName, Plan, Ruleset, Testnet, VmSpec};
use steading_sys::namespace::{self, Identity};
use steading_sys::tap;

use crate::Case;
use crate::support::{Group, Outcome, SOON, event_loop, plan, stopped_vm};
use crate::traces::pidfd;

pub(crate) const CASES: &[Case] = &[
    ("a_cut_vm_reaches_nobody_until_the_cut_is_undone", a_cut_vm_reaches_nobody),
    ("a_partition_is_between_its_sets_only_and_may_be_one_way", a_partition_is_between_its_sets_only),
    ("loss_is_by_chance_and_of_its_pair_only", loss_is_by_chance),
    ("frames_are_held_by_relays_until_the_fault_is_undone", frames_are_held_by_relays),
    ("a_rate_loses_what_does_not_fit", a_rate_loses_what_does_not_fit),
    ("faults_are_numbered_listed_and_undone", faults_are_numbered_listed_and_undone),
    ("faults_of_a_program_end_with_it_unless_they_are_kept", faults_of_a_program_end_with_it),
];

/// An EtherType for experiments (IEEE Std 802, 9.2.3).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// The virtio header in front of each frame: nothing is left undone (`linux/virtio_net.h`).
const HEADER: [u8; 10] = [0; 10];

/// A bridge with the TAPs of three VMs, which this process holds.
struct Wires {
    plan: Plan,
    taps: BTreeMap<String, File>,
}

impl Wires {
    /// Has these faults, and no others.
    fn set(&self, faults: &[Fault]) {
        for fault in faults {
            fault.check(&self.plan).expect("a good fault");
        }
        let itself = |tap: &IfName| vec![tap.clone()];
        replace_rules(&Ruleset::derive(&self.plan, itself, faults)).expect("rules");
    }

    /// Sends so many frames from a VM to another, and says how many arrive. A frame is delivered, or
    /// dropped, before the write of it returns.
    fn send(&mut self, from: &str, to: &str, count: usize, length: usize) -> usize {
        let mac = |name: &str| self.plan.vm(name).expect("a VM").mac.bytes();
        let mut frame = [&HEADER[..], &mac(to), &mac(from), &EXPERIMENT].concat();
        frame.resize(HEADER.len() + length, 0);
        self.arrivals(to);
        let mut arrived = 0;
        for _ in 0..count {
            self.taps.get_mut(from).expect("a TAP").write_all(&frame).expect("a frame is sent");
            arrived += self.arrivals(to);
        }
        arrived
    }

    /// Takes what has arrived, and counts the experiment's frames.
    fn arrivals(&mut self, at: &str) -> usize {
        let tap = self.taps.get_mut(at).expect("a TAP");
        let mut buffer = vec![0; 1 << 17];
        let mut count = 0;
        loop {
            match tap.read(&mut buffer) {
                Ok(length) => count += usize::from(buffer[..length].get(22..24) == Some(&EXPERIMENT)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("cannot read from a TAP: {error}"),
            }
        }
    }

    /// Which ordered pairs of VMs a frame passes between.
    fn pairs(&mut self) -> Vec<String> {
        let names = ["a", "b", "c"];
        let mut passed = Vec::new();
        for from in names {
            for to in names.into_iter().filter(|to| *to != from) {
                if self.send(from, to, 1, 64) == 1 {
                    passed.push(format!("{from}{to}"));
                }
            }
        }
        passed
    }
}

/// Runs this in namespaces of its own.
fn on_wires(body: fn(&mut Wires)) -> Outcome {
    let dirs = tempfile::tempdir().expect("a directory");
    let spec = |name: &str| VmSpec { name: name.to_owned(), ..stopped_vm(utf8(dirs.path())) };
    let plan = plan("faults", &Testnet::new().vm(spec("a")).vm(spec("b")).vm(spec("c")));
    let identity = Identity::current().expect("who we are");
    let child = namespace::spawn(|| {
        let _directory = namespace::set_up(&identity, None).expect("namespaces");
        let runtime = event_loop();
        let wires = runtime.block_on(async {
            let network = Network::ensure(&plan.addresses).await.expect("a bridge");
            let mut taps = BTreeMap::new();
            for vm in &plan.vms {
                let tap: OwnedFd = tap::create(&vm.tap).expect("a TAP");
                rustix::io::ioctl_fionbio(&tap, true).expect("a TAP that nobody waits for");
                network.attach(&vm.tap).await.expect("a port");
                taps.insert(vm.name.to_string(), File::from(tap));
            }
            Wires { plan: plan.clone(), taps }
        });
        let mut wires = wires;
        assert_eq!(wires.pairs(), ALL, "without any fault");
        body(&mut wires);
        0
    });
    let child = child.expect("namespaces");
    let status = rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty());
    let status = status.expect("it ends").and_then(|(_, status)| status.exit_status());
    assert_eq!(status, Some(0), "what it said stands above");
    Outcome::Passed
}

const ALL: [&str; 6] = ["ab", "ac", "ba", "bc", "ca", "cb"];

fn utf8(path: &std::path::Path) -> &camino::Utf8Path {
    path.try_into().expect("a directory whose name is text")
}

fn a_cut_vm_reaches_nobody() -> Outcome {
    on_wires(|wires| {
        wires.set(&[Fault::cut("a")]);
        assert_eq!(wires.pairs(), ["bc", "cb"]);
        wires.set(&[Fault::cut("a").one_way()]);
        assert_eq!(wires.pairs(), ["ba", "bc", "ca", "cb"]);
        wires.set(&[Fault::cut("a").incoming(), Fault::cut("b").one_way()]);
        assert_eq!(wires.pairs(), ["ab", "ac", "cb"]);
        wires.set(&[]);
        assert_eq!(wires.pairs(), ALL);
    })
}

fn a_partition_is_between_its_sets_only() -> Outcome {
    on_wires(|wires| {
        wires.set(&[Fault::partition(&["a", "b"], &["c"])]);
        assert_eq!(wires.pairs(), ["ab", "ba"]);
        wires.set(&[Fault::partition(&["a", "b"], &["c"]).one_way()]);
        assert_eq!(wires.pairs(), ["ab", "ba", "ca", "cb"]);
        wires.set(&[Fault::partition(&["a"], &["b"]), Fault::partition(&["b"], &["c"])]);
        assert_eq!(wires.pairs(), ["ac", "ca"]);
    })
}

fn loss_is_by_chance() -> Outcome {
    on_wires(|wires| {
        const SENT: usize = 10_000;
        wires.set(&[Fault::loss("a", 30.0).to("b")]);
        let arrived = wires.send("a", "b", SENT, 64);
        // Ten standard deviations, of 46 frames each, are on either side.
        assert!((6_540..=7_460).contains(&arrived), "{arrived} of {SENT} arrived");
        assert_eq!(wires.send("b", "a", 100, 64), 100, "the other way");
        assert_eq!(wires.send("a", "c", 100, 64), 100, "to another VM");
        // Both of two faults: 0.7 × 0.5.
        wires.set(&[Fault::loss("a", 30.0), Fault::loss("b", 50.0)]);
        let arrived = wires.send("a", "b", SENT, 64);
        assert!((3_020..=3_980).contains(&arrived), "{arrived} of {SENT} arrived");
        wires.set(&[Fault::loss("a", 100.0).to("b")]);
        assert_eq!(wires.send("a", "b", 100, 64), 0);
    })
}

/// The cards of a group's VMs, which nobody has started: the owner's own descriptors of their TAPs.
pub(crate) struct Cards<'a> {
    group: &'a Group,
    taps: BTreeMap<String, OwnedFd>,
}

impl<'a> Cards<'a> {
    pub(crate) fn of(group: &'a Group) -> Self {
        let owner = group.owner();
        let pidfd = pidfd(owner).expect("the owner");
        let mut taps = BTreeMap::new();
        for entry in fs_err::read_dir(format!("/proc/{owner}/fdinfo")).expect("the owner's descriptors") {
            let entry = entry.expect("a descriptor");
            // `tun_chr_show_fdinfo` in `drivers/net/tun.c`
            let Ok(info) = fs_err::read_to_string(entry.path()) else { continue };
            let name = info.lines().find_map(|line| line.strip_prefix("iff:")).map(str::trim);
            let vm = group.plan.vms.iter().find(|vm| Some(vm.tap.as_str()) == name);
            let number = entry.file_name().to_str().and_then(|number| number.parse().ok());
            if let (Some(vm), Some(number)) = (vm, number) {
                let tap = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).expect("a TAP");
                taps.insert(vm.name.to_string(), tap);
            }
        }
        Self { group, taps }
    }

    /// Sends any frame.
    pub(crate) fn send_frame(&self, from: &str, frame: &[u8]) {
        rustix::io::write(&self.taps[from], &[&HEADER[..], frame].concat()).expect("a frame is sent");
    }

    /// Waits for this very frame.
    pub(crate) fn wait_for_frame(&self, at: &str, frame: &[u8], limit: Duration) {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut wanted = [PollFd::new(&self.taps[at], PollFlags::IN)];
            let limit = Timespec::try_from(left).expect("a short time");
            assert_ne!(
                poll(&mut wanted, Some(&limit)).expect("it can be waited for"),
                0,
                "the frame did not arrive"
            );
            let length = rustix::io::read(&self.taps[at], &mut buffer).expect("a frame");
            if buffer[..length].get(HEADER.len()..) == Some(frame) {
                return;
            }
        }
    }

    fn send(&self, from: &str, to: &str, number: u32) {
        let mac = |name: &str| self.group.plan.vm(name).expect("a VM").mac.bytes();
        let mut frame = [&HEADER[..], &mac(to), &mac(from), &EXPERIMENT, &number.to_be_bytes()].concat();
        frame.resize(HEADER.len() + 1_000, 0);
        rustix::io::write(&self.taps[from], &frame).expect("a frame is sent");
    }

    /// The number of the next frame that arrives within this time.
    fn next(&self, at: &str, limit: Duration) -> Option<u32> {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut wanted = [PollFd::new(&self.taps[at], PollFlags::IN)];
            let limit = Timespec::try_from(left).expect("a short time");
            if poll(&mut wanted, Some(&limit)).expect("it can be waited for") == 0 {
                return None;
            }
            let length = rustix::io::read(&self.taps[at], &mut buffer).expect("a frame");
            if buffer[..length].get(22..24) == Some(&EXPERIMENT) {
                return Some(u32::from_be_bytes(buffer[24..28].try_into().expect("four bytes")));
            }
        }
    }

    /// How many frames arrive before there is none for a while.
    fn count(&self, at: &str) -> usize {
        std::iter::from_fn(|| self.next(at, Duration::from_millis(500))).count()
    }
}

fn frames_are_held_by_relays() -> Outcome {
    const DELAY: Duration = Duration::from_millis(200);
    let group = group();
    let cards = Cards::of(&group);
    // Whatever happens to a frame, it takes at least as long as it is delayed.
    let takes = |from: &str, to: &str| {
        let began = Instant::now();
        cards.send(from, to, 1);
        assert_eq!(cards.next(to, SOON), Some(1), "from {from} to {to}");
        began.elapsed()
    };
    takes("a", "b");
    let delay = begin(&group, Fault::delay("a", DELAY).to("b"), None).expect("a delay");
    assert!(takes("a", "b") >= DELAY);
    takes("b", "a");
    let other = begin(&group, Fault::delay("a", DELAY).one_way(), None).expect("another delay");
    assert!(takes("a", "b") >= 2 * DELAY, "delays add up");
    // The relay's end stands for the VM where frames are dropped.
    let cut = begin(&group, Fault::cut("a").one_way(), None).expect("a cut");
    cards.send("a", "b", 2);
    assert_eq!(cards.next("b", 3 * DELAY), None, "it is cut");
    takes("b", "a");
    for id in [cut, other] {
        group.wait_for(group.client.undo_fault(id)).expect("it is undone");
    }
    let double = begin(&group, Fault::duplicate("a", 100.0).to("b"), None).expect("a fault");
    cards.send("a", "b", 3);
    assert_eq!([cards.next("b", SOON), cards.next("b", SOON)], [Some(3); 2], "it arrives twice");
    group.wait_for(group.client.undo_fault(double)).expect("it is undone");
    // What is on its way when a fault is undone arrives.
    cards.send("a", "b", 4);
    group.wait_for(group.client.undo_fault(delay)).expect("it is undone");
    assert_eq!(cards.next("b", SOON), Some(4));
    takes("a", "b");
    let links = group.run(&["ip", "-o", "link"]).lines.join("\n");
    for prefix in ["wbr-", "win-", "wou-"] {
        assert!(!links.contains(prefix), "of a relay there is left: {links}");
    }
    drop(cards);
    group.tear_down();
    Outcome::Passed
}

fn a_rate_loses_what_does_not_fit() -> Outcome {
    let group = group();
    let cards = Cards::of(&group);
    // A frame of 1,000 bytes takes a hundredth of a second, and 32 KiB may wait.
    begin(&group, Fault::rate("a", 800_000).to("b"), None).expect("a rate");
    let began = Instant::now();
    (0..200).for_each(|number| cards.send("a", "b", number));
    let took = began.elapsed();
    let arrived = cards.count("b");
    let may = 34 + usize::try_from(took.as_millis() / 10).expect("a short time");
    assert!((33..=may).contains(&arrived), "{arrived} arrived of what was sent in {took:?}");
    (0..20).for_each(|number| cards.send("b", "a", number));
    assert_eq!(cards.count("a"), 20, "the other way");
    drop(cards);
    group.tear_down();
    Outcome::Passed
}

fn group() -> Group {
    Group::up("faults", |dirs| {
        let named = |name: &str| VmSpec { name: name.to_owned(), ..stopped_vm(dirs) };
        Testnet::new().vm(named("a")).vm(named("b"))
    })
}

fn begin(group: &Group, fault: Fault, pid: Option<i32>) -> Result<u32, String> {
    let begun = group.wait_for(group.client.begin_fault(&FaultRequest { fault, pid }));
    begun.map(|fault| fault.id).map_err(|error| error.to_string())
}

fn numbers(group: &Group) -> Vec<u32> {
    group.wait_for(group.client.faults()).expect("faults").iter().map(|fault| fault.id).collect()
}

fn faults_are_numbered_listed_and_undone() -> Outcome {
    let group = group();
    assert_eq!(begin(&group, Fault::cut("a"), None), Ok(1));
    assert_eq!(begin(&group, Fault::loss("b", 5.0), None), Ok(2));
    let refused = begin(&group, Fault::cut("c"), None).expect_err("there is no such VM");
    assert_eq!(refused, "there is no VM named \"c\"\nhint: there are: a, b");
    assert!(begin(&group, Fault::new(vec!["a".to_owned()], Effect::Loss { percent: 0.0 }), None).is_err());
    assert_eq!(numbers(&group), [1, 2]);
    group.wait_for(group.client.undo_fault(1)).expect("it is undone");
    assert_eq!(numbers(&group), [2]);
    let again = group.wait_for(group.client.undo_fault(1)).expect_err("it is not there");
    assert_eq!(again.to_string(), "no fault with the number 1 is active\nhint: active are: 2");
    // A number is given once.
    assert_eq!(begin(&group, Fault::cut("a"), None), Ok(3));
    let undone = group.wait_for(group.client.undo_faults()).expect("they are undone");
    assert_eq!(undone.iter().map(|fault| fault.id).collect::<Vec<_>>(), [2, 3]);
    assert!(numbers(&group).is_empty());
    group.tear_down();
    Outcome::Passed
}

fn faults_of_a_program_end_with_it() -> Outcome {
    use steading_api::ProcessEvent;
    let group = group();
    group.wait_for(async {
        let spec = crate::support::spec(&["sleep", "1001"]);
        let mut events = group.client.start_process(&spec).await.expect("a program");
        let Some(ProcessEvent::Started { pid }) = events.next().await.expect("an event") else {
            panic!("it has not started")
        };
        for vm in ["a", "b"] {
            let request = FaultRequest { fault: Fault::cut(vm), pid: Some(pid) };
            let begun = group.client.begin_fault(&request).await.expect("a fault");
            assert_eq!(begun.function.as_deref(), Some("program"));
        }
        group.client.keep_fault(2).await.expect("it is kept");
        group.client.end_process(pid).await.expect("it is ended");
        while let Some(event) = events.next().await.expect("an event") {
            if matches!(event, ProcessEvent::Ended { .. }) {
                break;
            }
        }
        let left: Vec<u32> =
            group.client.faults().await.expect("faults").iter().map(|fault| fault.id).collect();
        assert_eq!(left, [2], "at the moment at which its end is told");
    });
    group.tear_down();
    Outcome::Passed
}
