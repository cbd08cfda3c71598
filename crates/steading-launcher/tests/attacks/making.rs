//! What it makes, and that all of it goes.

use std::process::{Command, Stdio};

use steading_plan::{IfName, LaunchRequest};
use steading_testing::frames;
use steading_testing::process::{ends_within, wait_for_end};

use crate::support::{SOON, everything, in_arena, interfaces, ip, packets, receive};

fn request(words: &str) -> LaunchRequest {
    LaunchRequest::parse(words.split_whitespace()).expect("good names")
}

fn names(words: &str) -> Vec<String> {
    let request = request(words);
    let mut names: Vec<String> = request.taps().iter().map(IfName::to_string).collect();
    names.push(request.addresses().bridge.to_string());
    names.sort();
    names
}

#[test]
fn nobody_can_make_a_user_namespace_there_and_only_the_launcher_has_capabilities() {
    in_arena(
        "making::nobody_can_make_a_user_namespace_there_and_only_the_launcher_has_capabilities",
        |launcher| {
            let unshare = Command::new("unshare").args(["--user", "true"]).stderr(Stdio::null()).status();
            assert!(!unshare.expect("unshare").success());
            let ip = Command::new("ip")
                .args(["link", "add", "x", "type", "bridge"])
                .stderr(Stdio::null())
                .status();
            assert!(!ip.expect("ip").success());
            assert!(launcher.run(["check"]).status.success());
        },
    );
}

#[test]
fn a_group_is_made_handed_over_and_gone_with_its_driver() {
    in_arena("making::a_group_is_made_handed_over_and_gone_with_its_driver", |launcher| {
        let before = everything();
        let words = "east a b+ipv4";
        let kept = launcher.made(words);
        assert_eq!(interfaces(), names(words));
        let request = request(words);
        let plan = request.addresses();
        let mut wanted: Vec<String> = request.taps().iter().map(|tap| format!("tap {tap}")).collect();
        wanted.extend(request.endpoints().iter().map(ToString::to_string));
        assert_eq!(kept.what(), wanted);
        let bridge = ip(&format!("-d link show {}", plan.bridge));
        for text in ["state UP", "mcast_snooping 0", "forward_delay 0", "alias steading 1 uid="] {
            assert!(bridge.contains(text) || text == "state UP", "{text}: {bridge}");
        }
        let addresses = ip(&format!("-o addr show dev {}", plan.bridge));
        let drivers = plan.driver_addresses().map(|address| format!("{address}/128"));
        let gateways = [format!("{}/64", plan.gateway), format!("{}/24", plan.ipv4_gateway)];
        for address in drivers.iter().chain(&gateways) {
            assert!(addresses.contains(address.as_str()), "{address}: {addresses}");
        }
        let routes = ip(&format!("-6 route show {}", plan.prefix));
        assert!(routes.contains(&format!("src {} metric 256", plan.management)), "{routes}");
        kept.close();
        assert_eq!(everything(), before);
    });
}

#[test]
fn the_host_believes_nothing_that_a_guest_says() {
    in_arena("making::the_host_believes_nothing_that_a_guest_says", |launcher| {
        let kept = launcher.made("east a");
        let bridge = request("east").addresses().bridge;
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).expect("a parameter");
        for (family, parameter, value) in [
            ("ipv6", "accept_ra", "0\n"),
            ("ipv6", "accept_redirects", "0\n"),
            ("ipv6", "forwarding", "0\n"),
            ("ipv4", "rp_filter", "1\n"),
            ("ipv4", "accept_redirects", "0\n"),
            ("ipv4", "secure_redirects", "0\n"),
            ("ipv6", "autoconf", "0\n"),
            ("ipv4", "forwarding", "0\n"),
        ] {
            assert_eq!(read(&format!("{family}/conf/{bridge}/{parameter}")), value, "{family} {parameter}");
        }
        kept.close();
    });
}

/// What a router could change.
fn network_of(bridge: &IfName) -> String {
    let links = ip("-o link");
    let mtus = links
        .lines()
        .map(|line| line.split_whitespace().skip(1).step_by(2).take(3).collect::<Vec<_>>().join(" "));
    let mut network: Vec<String> = mtus.collect();
    network.extend(["-o addr show scope global", "-6 route show", "route show", "-6 rule"].map(ip));
    for parameter in ["hop_limit", "mtu"] {
        let path = format!("/proc/sys/net/ipv6/conf/{bridge}/{parameter}");
        network.push(std::fs::read_to_string(path).expect("a parameter"));
    }
    let all = network.iter().flat_map(|text| text.lines());
    // Those of link-local addresses come a moment after a link is up, and so does its state.
    let kept = all.filter(|line| !line.starts_with("fe80::")).map(|line| line.replace(" linkdown", ""));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_guest_that_advertises_a_router_changes_nothing_of_the_hosts_network() {
    in_arena("making::a_guest_that_advertises_a_router_changes_nothing_of_the_hosts_network", |launcher| {
        let kept = launcher.made("east a");
        let request = request("east a");
        let plan = request.addresses();
        let before = network_of(&plan.bridge);
        let (_, tap) = kept.handed.iter().find(|(what, _)| what.starts_with("tap ")).expect("a TAP");
        let mac = [0x6a, 1, 2, 3, 4, 5];
        let advertisement = frames::router_advertisement(mac);
        let redirect = frames::redirect(mac, plan.bridge_mac.bytes(), plan.gateway);
        for frame in [&advertisement, &advertisement, &redirect] {
            // Behind the virtio header (`linux/virtio_net.h`).
            rustix::io::write(tap, &[&[0; 10][..], frame].concat()).expect("a frame is sent");
        }
        assert_eq!(network_of(&plan.bridge), before);
        kept.close();
    });
}

#[test]
fn groups_of_different_names_live_side_by_side_and_one_name_is_one_group() {
    in_arena("making::groups_of_different_names_live_side_by_side_and_one_name_is_one_group", |launcher| {
        let east = launcher.made("east a");
        let west = launcher.made("west a");
        let with_both = everything();
        let mut again = launcher.make("east b");
        assert!(again.complaint().starts_with("you have a group east"));
        assert_eq!(everything(), with_both);
        east.close();
        assert_eq!(interfaces(), names("west a"));
        launcher.made("east a").close();
        west.close();
        assert!(interfaces().is_empty());
    });
}

#[test]
fn what_a_killed_launcher_leaves_is_collected_and_nothing_else_is() {
    in_arena("making::what_a_killed_launcher_leaves_is_collected_and_nothing_else_is", |launcher| {
        let lives = launcher.made("lives a");
        let killed = launcher.made("killed a b");
        // One of its TAPs is still open, as in a QEMU that was not killed.
        let tap = killed.handed.first().expect("a TAP").1.try_clone().expect("the same again");
        killed.kill();
        assert!(interfaces().contains(&request("killed").addresses().bridge.to_string()));
        let mut again = launcher.make("killed a");
        assert!(again.complaint().contains("`steading gc`"));
        let collected = launcher.run(["gc"]);
        assert!(collected.status.success());
        assert_eq!(String::from_utf8_lossy(&collected.stdout).lines().count(), 2, "the bridge, and a TAP");
        assert_eq!(interfaces(), names("lives a"));
        drop(tap);
        assert!(launcher.run(["gc"]).stdout.is_empty());
        launcher.made("killed a").close();
        lives.close();
    });
}

#[test]
fn the_router_daemon_runs_with_the_three_capabilities_and_ends_with_who_started_it() {
    in_arena(
        "making::the_router_daemon_runs_with_the_three_capabilities_and_ends_with_who_started_it",
        |launcher| {
            let kept = launcher.made("east a+ipv4");
            // A shell starts it, and is its parent.
            let script = format!("{} router east a+ipv4 2>&1 & echo $!; wait", launcher.path.display());
            let mut shell = Command::new("sh");
            let mut shell =
                shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
            let mut lines =
                std::io::BufRead::lines(std::io::BufReader::new(shell.stdout.take().expect("a pipe")));
            let pid: u32 = lines.next().expect("a line").expect("UTF-8").parse().expect("a number");
            let started = lines.by_ref().map_while(Result::ok).find(|line| line.contains("started, version"));
            assert!(started.is_some(), "dnsmasq has not started");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
            // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW (linux/capability.h): bits 10, 12, 13.
            for line in ["CapPrm:\t0000000000003400", "CapAmb:\t0000000000003400", "NoNewPrivs:\t1"] {
                assert!(status.contains(line), "{line}: {status}");
            }
            shell.kill().expect("kill the shell");
            shell.wait().expect("its end");
            // It holds the pipe until it ends.
            assert!(lines.map_while(Result::ok).all(|line| !line.contains("FAILED")));
            kept.close();
            assert!(interfaces().is_empty());
        },
    );
}

#[test]
fn a_launcher_that_is_killed_at_any_moment_leaves_nothing_that_is_not_collected() {
    in_arena(
        "making::a_launcher_that_is_killed_at_any_moment_leaves_nothing_that_is_not_collected",
        |launcher| {
            for round in 0..60_u64 {
                let (ours, theirs) = packets();
                let mut child = launcher
                    .command(["make", "east", "a", "b", "c+ipv4"])
                    .stdin(theirs)
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("start");
                // It takes some milliseconds: at another of them each time.
                ends_within(&child, std::time::Duration::from_micros(round * 250));
                child.kill().expect("kill");
                wait_for_end(&child, SOON, "the launcher");
                child.wait().expect("its end");
                drop(ours);
                assert!(launcher.run(["gc"]).status.success());
                assert!(interfaces().is_empty(), "after {round} rounds: {:?}", interfaces());
            }
        },
    );
}

#[test]
fn a_thousand_calls_at_once_make_one_group_of_each_name() {
    in_arena("making::a_thousand_calls_at_once_make_one_group_of_each_name", |launcher| {
        const NAMES: usize = 20;
        let mut started: Vec<_> = (0..1000)
            .map(|call| {
                let (ours, theirs) = packets();
                let name = format!("g{}", call % NAMES);
                let mut command = launcher.command(["make", &name, "a"]);
                let child = command.stdin(theirs).stderr(Stdio::null()).spawn().expect("start");
                (child, Some(ours))
            })
            .collect();
        // Each is refused, and ends, or hands over, and waits.
        let mut made = vec![0; NAMES];
        for (call, (_, socket)) in started.iter().enumerate() {
            let socket = socket.as_ref().expect("it is open");
            let is_made = std::iter::from_fn(|| receive(socket)).any(|(what, _)| what == "ready");
            made[call % NAMES] += u32::from(is_made);
        }
        assert_eq!(made, [1; NAMES]);
        // The TAPs went with what was handed over.
        let mut all: Vec<String> =
            (0..NAMES).map(|name| request(&format!("g{name}")).addresses().bridge.to_string()).collect();
        all.sort();
        assert_eq!(interfaces(), all);
        for (child, socket) in &mut started {
            *socket = None;
            wait_for_end(child, SOON, "a launcher");
            child.wait().expect("its end");
        }
        assert!(interfaces().is_empty(), "{:?}", interfaces());
    });
}
