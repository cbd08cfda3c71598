//! Groups that nobody kills, or not whole.

use libtest_mimic::Failed;
use steading_api::{ConsoleFrom, ConsoleWait, ProcessEvent, ProcessSpec, VmState, VmVerb};
use steading_plan::Testnet;

use crate::fixture::{Group, check, config, panicking};

pub(crate) fn an_empty_group_answers_and_is_torn_down() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let status = group.runtime.block_on(group.client.status())?;
    check(status.plan == group.plan, || "the owner has another plan".to_owned())?;
    group.tear_down()
}

pub(crate) fn the_network_is_as_planned() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let addresses = group.plan.addresses.clone();
    let (shown, _) = group.run("ip -6 addr show; ip -4 addr show")?;
    let shown = shown.join("\n");
    let wanted = addresses.driver_addresses().map(|address| format!("{address}/128"));
    for wanted in wanted
        .into_iter()
        .chain([format!("{}/64", addresses.gateway), format!("{}/24", addresses.ipv4_gateway)])
    {
        check(shown.contains(&wanted), || format!("{wanted} is missing in:\n{shown}"))?;
    }
    let guest = std::net::Ipv6Addr::from(u128::from(addresses.gateway) + 0x1234);
    let (route, _) = group.run(&format!("ip -6 route get {guest}; ip -6 route show {}", addresses.prefix))?;
    let route = route.join("\n");
    for wanted in
        [format!("src {}", addresses.management), "proto kernel".to_owned(), "metric 256".to_owned()]
    {
        check(route.contains(&wanted), || format!("{wanted} is missing in:\n{route}"))?;
    }
    group.tear_down()
}

pub(crate) fn a_programs_lines_and_end_are_told() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let (mut lines, end) = group.run("echo out; echo err >&2; printf 'no newline \\377'; exit 7")?;
    lines.sort();
    check(lines == ["err", "no newline \u{fffd}", "out"], || format!("{lines:?}"))?;
    check(matches!(end, ProcessEvent::Ended { status: Some(7), signal: None, .. }), || format!("{end:?}"))?;
    let (_, end) = group.run("kill -SEGV $$")?;
    check(matches!(end, ProcessEvent::Ended { status: None, signal: Some(11), .. }), || format!("{end:?}"))?;
    group.tear_down()
}

pub(crate) fn what_a_program_leaves_is_ended_and_named() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let (_, end) = group.run("sleep 1000 & setsid sleep 2000 & sleep 0.5")?;
    let ProcessEvent::Ended { left, .. } = end else { return Err("no end was told".into()) };
    let mut left: Vec<&str> = left.iter().map(String::as_str).collect();
    left.sort_unstable();
    check(left == ["sleep 1000", "sleep 2000"], || format!("what was left: {left:?}"))?;
    let (running, _) = group.run("cat /proc/[0-9]*/comm")?;
    check(!running.iter().any(|name| name == "sleep"), || format!("still there: {running:?}"))?;
    group.tear_down()
}

pub(crate) fn a_program_is_ended_when_asked() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    let argv = ["sleep", "1000"].map(str::to_owned).into();
    let spec = ProcessSpec { name: "sleeper".to_owned(), argv, env: Vec::new() };
    group.runtime.block_on(async {
        let mut events = group.client.start_process(&spec).await?;
        while let Some(event) = events.next().await? {
            match event {
                ProcessEvent::Started { pid } => group.client.end_process(pid).await?,
                ProcessEvent::Ended { signal: Some(9), .. } => return Ok(()),
                other => return Err(Failed::from(format!("{other:?}"))),
            }
        }
        Err("its end was not told".into())
    })?;
    group.tear_down()
}

pub(crate) fn a_missing_router_daemon_is_named_with_its_package() -> Result<(), Failed> {
    let (config, dir) = config(&Testnet::new())?;
    // The owner looks for programs where this process would, were it told by exec; so ask for one
    // that no PATH has.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty)?;
    let me = std::env::current_exe()?;
    if std::env::var_os("STEADING_GROUP_NO_PROGRAMS").is_none() {
        let output = std::process::Command::new(me)
            .env("PATH", &empty)
            .env("STEADING_GROUP_NO_PROGRAMS", "1")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return check(output.status.success(), || said);
    }
    let mut owner = steading_group::spawn(config)?;
    let error = owner.wait_until_ready().err().ok_or("it came up without a router daemon")?.to_string();
    let status = owner.wait()?;
    check(status == Some(1), || format!("the owner ended with {status:?}"))?;
    check(
        error.contains("dnsmasq is not installed") && error.contains("apt-get install dnsmasq-base"),
        || error,
    )
}

pub(crate) fn a_killed_router_daemon_leaves_the_group_alive() -> Result<(), Failed> {
    let group = Group::up(&Testnet::new())?;
    group.run("for p in /proc/[0-9]*; do grep -q dnsmasq $p/comm && kill -9 ${p#/proc/}; done; true")?;
    let status = group.runtime.block_on(group.client.status())?;
    let log = std::path::Path::new(&status.log_dir).join("test.log");
    group.tear_down_with(|| {
        let text = std::fs::read_to_string(&log)?;
        check(text.contains("the router daemon has ended"), || format!("the log says only: {text}"))
    })
}

pub(crate) fn two_groups_of_one_name_do_not_meet() -> Result<(), Failed> {
    let (first, second) = (Group::up(&Testnet::new())?, None::<Group>);
    drop(second);
    let address = first.plan.addresses.files;
    // Had they one network, the second could not listen on the same address.
    let listen = format!("ip -6 addr show dev lo | grep -c {address}");
    let (seen, _) = first.run(&listen)?;
    check(seen == ["1"], || format!("{seen:?}"))?;
    let other = {
        let (config, _dir) = config(&Testnet::new())?;
        let mut owner = steading_group::spawn(config)?;
        owner.wait_until_ready()?;
        owner
    };
    let (seen, _) = first.run(&listen)?;
    check(seen == ["1"], || format!("{seen:?}"))?;
    other.kill();
    other.wait()?;
    let (seen, _) = first.run(&listen)?;
    check(seen == ["1"], || format!("{seen:?} after the other ended"))?;
    first.tear_down()
}

pub(crate) fn a_panicking_guest_is_told_with_its_console() -> Result<(), Failed> {
    let group = Group::up(&panicking(&["a"]))?;
    let ended = group.runtime.block_on(group.client.ended("a"))?;
    check(ended.reason == "its kernel panicked", || format!("{ended:?}"))?;
    check(ended.console.iter().any(|line| line.contains("Kernel panic")), || format!("{:?}", ended.console))?;
    group.tear_down()
}

pub(crate) fn a_vm_is_killed_and_started_again() -> Result<(), Failed> {
    let group = Group::up(&panicking(&["a"]))?;
    let wait = ConsoleWait { pattern: "Linux version".to_owned(), from: ConsoleFrom::Boot, limit_ms: 60_000 };
    let (status, log_dir) = group.runtime.block_on(async {
        group.client.wait_for_console("a", &wait).await?;
        let off = group.client.act("a", VmVerb::Kill).await?;
        check(off.state == VmState::Off && off.ended.is_some(), || format!("{off:?}"))?;
        let never = ConsoleWait { pattern: "never".to_owned(), ..wait.clone() };
        let refused = group.client.wait_for_console("a", &never).await;
        check(refused.is_err(), || "a VM that is off was waited for".to_owned())?;
        group.client.act("a", VmVerb::Start).await?;
        group.client.wait_for_console("a", &wait).await?;
        Ok::<_, Failed>((group.client.vm("a").await?, group.client.status().await?.log_dir))
    })?;
    check(status.boot == 2, || format!("{status:?}"))?;
    group.tear_down_with(|| {
        let console = std::fs::read_to_string(format!("{log_dir}/vms/a/console.log"))?;
        let boots = console.matches("Linux version").count();
        check(boots == 2, || format!("the console's log has {boots} boots"))
    })
}

pub(crate) fn a_killed_qemu_is_told_and_the_group_lives() -> Result<(), Failed> {
    let group = Group::up(&panicking(&["a", "b"]))?;
    let pid = group.runtime.block_on(group.client.vm("a"))?.pid.ok_or("it has no process")?;
    group.run(&format!("kill -9 {pid}"))?;
    let reason = group.runtime.block_on(async {
        loop {
            let status = group.client.vm("a").await?;
            if let Some(reason) = status.ended {
                return Ok::<_, Failed>(reason);
            }
        }
    })?;
    check(reason.contains("by signal 9, which nobody asked for"), || reason)?;
    let other = group.runtime.block_on(group.client.vm("b"))?;
    check(other.state == VmState::Running, || format!("{other:?}"))?;
    group.tear_down()
}

impl Group {
    /// Tears it down, and then looks at what it left: its logs are whole only then.
    fn tear_down_with(self, look: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        self.runtime.block_on(self.client.tear_down())?;
        self.owner.wait()?;
        let looked = look();
        drop(self.dir);
        looked
    }
}
