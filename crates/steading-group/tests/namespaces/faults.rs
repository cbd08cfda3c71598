//! Faults in a real bridge: frames go in by the TAPs of some VMs, and come out by those of others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;

use steading_api::FaultRequest;
use steading_net::{Network, replace_rules};
use steading_plan::{Effect, Fault, Plan, Ruleset, Testnet, VmSpec};
use steading_sys::namespace::{self, Identity};
use steading_sys::tap;

use crate::Case;
use crate::support::{Group, Outcome, event_loop, plan, stopped_vm};

pub(crate) const CASES: &[Case] = &[
    ("a_cut_vm_reaches_nobody_until_the_cut_is_undone", a_cut_vm_reaches_nobody),
    ("a_partition_is_between_its_sets_only_and_may_be_one_way", a_partition_is_between_its_sets_only),
    ("loss_is_by_chance_and_of_its_pair_only", loss_is_by_chance),
    ("a_rate_lets_its_share_pass", a_rate_lets_its_share_pass),
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
        faults.iter().for_each(|fault| fault.check(&self.plan).expect("a good fault"));
        replace_rules(&Ruleset::derive(&self.plan, faults)).expect("rules");
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
        let _directory = namespace::set_up(&identity).expect("namespaces");
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

fn a_rate_lets_its_share_pass() -> Outcome {
    on_wires(|wires| {
        // So slow that what it lets pass during the test, however long it takes, is little beside the
        // burst that may pass at first.
        wires.set(&[Fault::rate("a", 8_000).to("b")]);
        let arrived = wires.send("a", "b", 1_000, 1_000);
        assert!((131..500).contains(&arrived), "{arrived} frames arrived");
        assert_eq!(wires.send("b", "a", 1_000, 1_000), 1_000);
        // A frame as large as those that guests leave to be cut passes, at some time.
        wires.set(&[Fault::rate("a", 8_000_000_000).to("b")]);
        assert!(wires.send("a", "b", 10, 1_500) > 0);
    })
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
