//! What guests download from the group's file server, also when it misbehaves; and HTTP from tests.

use std::net::Ipv6Addr;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use steading::{
    FileFault, FileSource, FileStatus, ForkFallback, Group, Sha256, Source, Suite, Testnet, Vm, at_once,
    reference,
};

/// The guest's own image, which is as large as they are.
const IMAGE: &str = "image";

/// A file that is added while the testnet runs.
const UPDATE: &str = "an update.bin";
const UPDATE_SIZE: usize = 5_000_000;

/// A web server in the guest, of no more than Debian's essential packages: it tells who has asked.
const SERVER: &str = r#"use Socket;
socket(my $l, AF_INET6, SOCK_STREAM, 0); setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1);
bind($l, pack_sockaddr_in6(8000, Socket::IN6ADDR_ANY)) or die; listen($l, 100);
while (my $peer = accept(my $c, $l)) {
    my (undef, $address) = sockaddr_in6($peer);
    my $request = <$c>;
    while (defined(my $line = <$c>)) { last if $line eq "\r\n" }
    my $status = $request =~ m{ /health } ? "200 OK" : "404 Not Found";
    my $text = Socket::inet_ntop(AF_INET6, $address);
    syswrite($c, "HTTP/1.1 $status\r\nX-Kind: test\r\nConnection: close\r\nContent-Length: " . length($text) . "\r\n\r\n$text");
    close($c);
}
"#;

fn main() -> ExitCode {
    Suite::new("files")
        .testnet(|| {
            let guest = reference::guest()?;
            let vm = guest.vm("n1");
            let image = vm.disk.clone().context("the reference guest has a disk")?;
            Ok(Testnet::new().vm(vm).vm(guest.vm("n2")).file(FileSource::from(image).name(IMAGE)))
        })
        .setup(|testnet| {
            at_once(&testnet.vms(), Vm::wait_for_ssh)?;
            let n1 = testnet.vm("n1");
            n1.succeed(&format!("cat >/run/server.pl <<'END'\n{SERVER}END"))?;
            n1.succeed("systemd-run -q -u server perl /run/server.pl")?;
            n1.wait_for_open_port(8000)
        })
        .test("a_declared_image_is_downloaded_by_all_at_once_and_is_what_it_should_be", downloads)
        .test("a_download_is_resumed_after_a_cut_in_the_middle", resumes)
        .test("a_file_that_misbehaves_is_replaced_by_another", falls_back)
        .test("a_file_that_vanished_is_told", vanished)
        .test("accesses_are_in_the_log_of_their_vm", accesses)
        .test("http_resolves_names_of_the_group_and_comes_from_where_the_test_wants", http)
        .sequential("forked", |section| {
            section
                .setup(|testnet| {
                    add_update(testnet)?;
                    testnet.file_fault(FileFault::status(503).of(IMAGE))?.keep()
                })
                .fork_each(ForkFallback::Skip)
                .test("a_fork_serves_what_its_group_served_and_as_badly", forks)
                .test("and_has_the_server_behave_for_itself_alone", forks)
        })
        .main()
}

/// A file of this run's own; it is there as long as the testnet.
fn add_update(testnet: &Group) -> anyhow::Result<FileStatus> {
    let content: Vec<u8> = (0..UPDATE_SIZE).map(|at| u8::try_from(at % 253).unwrap_or_default()).collect();
    let path = format!("{}/update.bin", testnet.log_dir());
    if !std::path::Path::new(&path).exists() {
        fs_err::write(&path, content)?;
    }
    testnet.add_file(FileSource::new(path).name(UPDATE))
}

fn sum(vm: &Vm, file: &str) -> anyhow::Result<String> {
    let said = vm.succeed(&format!("sha256sum <{file}"))?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

fn downloads(testnet: &Group) -> anyhow::Result<()> {
    let image = testnet.file(IMAGE)?;
    ensure!(image.url().ends_with(&image.sha256().to_string()), "it is not known by its digest: {image:?}");
    let megabytes = f64::from(u32::try_from(image.size())?) / 1e6;
    let began = std::time::Instant::now();
    at_once(&testnet.vms(), |vm| {
        let digest = vm.succeed(&format!("curl -sSf {} | sha256sum", image.url()))?;
        ensure!(digest.starts_with(&image.sha256().to_string()), "VM {} got {digest}", vm.name());
        Ok(())
    })?;
    testnet.metric("download_by_two_mb_per_s", 2.0 * megabytes / began.elapsed().as_secs_f64());
    let head = testnet.vm("n1").succeed(&format!("curl -sSfI {}", image.named_url()))?;
    ensure!(head.contains(&format!("Content-Length: {}", image.size())), "the head is: {head}");
    Ok(())
}

fn resumes(testnet: &Group) -> anyhow::Result<()> {
    let update = add_update(testnet)?;
    let n1 = testnet.vm("n1");
    let cut = testnet.file_fault(FileFault::cut_after(2_000_000).of(UPDATE))?;
    let said = n1.execute(&format!("rm -f u; curl -sS -o u {}", update.url()))?;
    ensure!(said.status == 18, "curl does not tell of a transfer that was cut: {said:?}");
    ensure!(n1.succeed("stat -c %s u")?.trim() == "2000000", "it was cut elsewhere");
    // The cut is there for the rest, too.
    n1.fail(&format!("curl -sS -C - -o u {}", update.url()))?;
    cut.undo()?;
    n1.succeed(&format!("curl -sSf -C - -o u {}", update.url()))?;
    ensure!(sum(&n1, "u")? == update.sha256().to_string(), "what was put together is another");
    // There is nothing left to resume.
    let more =
        n1.succeed(&format!("curl -s -o /dev/null -w '%{{http_code}}' -r {UPDATE_SIZE}- {}", update.url()))?;
    ensure!(more == "416", "behind the end the status is {more}");
    Ok(())
}

fn falls_back(testnet: &Group) -> anyhow::Result<()> {
    let (update, n1) = (add_update(testnet)?, testnet.vm("n1"));
    let nothing = testnet.plan().addresses.file_url(&Sha256::of("no such file").to_string());
    let download = format!(
        "rm -f u; curl -sSf -o u {nothing} || curl -sSf --max-time 20 -o u {} && sha256sum u",
        update.url()
    );
    ensure!(n1.succeed(&download)?.starts_with(&update.sha256().to_string()), "the second URL gave another");
    let wrong = testnet.file_fault(FileFault::corrupt().of(update.sha256().to_string()))?;
    ensure!(!n1.succeed(&download)?.starts_with(&update.sha256().to_string()), "all bytes are right");
    wrong.undo()?;
    for (fault, status) in
        [(FileFault::refuse(), 7), (FileFault::refuse().of(UPDATE), 56), (FileFault::status(503), 22)]
    {
        let what = fault.to_string();
        let fault = testnet.file_fault(fault)?;
        let said = n1.execute(&format!("curl -sSf -o u {}", update.url()))?;
        ensure!(said.status == status, "{what}: {said:?}");
        fault.undo()?;
        n1.succeed(&download)?;
    }
    let slow = testnet.file_fault(FileFault::slow(1_000_000).of(UPDATE))?;
    let said = n1.execute(&format!("curl -sS --max-time 2 -o u {}", update.url()))?;
    ensure!(said.status == 28, "5 MB at 1 MB/s came within 2 s: {said:?}");
    slow.undo()
}

fn vanished(testnet: &Group) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("the temporary directory is no text")?;
    let added = testnet.add_file(FileSource::new(path).name("short-lived"))?;
    drop(file);
    let error = testnet.file("short-lived").err().context("it has a URL")?.to_string();
    ensure!(error.contains("has vanished"), "it says: {error}");
    let said = testnet
        .vm("n1")
        .succeed(&format!("curl -s {}; curl -s -o /dev/null -w '%{{http_code}}' {0}", added.url()))?;
    ensure!(said.contains("has vanished") && said.ends_with("410"), "the guest is told: {said}");
    testnet.remove_file("short-lived")
}

fn accesses(testnet: &Group) -> anyhow::Result<()> {
    let image = testnet.file(IMAGE)?;
    testnet.vm("n2").succeed(&format!("curl -sSf -r 10-19 {}", image.url()))?;
    let wanted = [
        "\"vm\":\"n2\"",
        "\"access\":{\"file\":\"image\"",
        "\"status\":206,\"first\":10,\"announced\":10,\"sent\":10",
    ];
    for _ in 0..50 {
        let log = fs_err::read_to_string(format!("{}/log.jsonl", testnet.log_dir()))?;
        if log.lines().any(|line| wanted.iter().all(|part| line.contains(part))) {
            return Ok(());
        }
        // A line is in the log after a second at most.
        testnet.vm("n2").execute_by_agent("sleep 0.1")?;
    }
    anyhow::bail!("there is no such line")
}

fn http(testnet: &Group) -> anyhow::Result<()> {
    let n1 = testnet.vm("n1");
    let addresses = &testnet.plan().addresses;
    let further = Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0, 9);
    let sources = [
        (Source::Management, addresses.management),
        (Source::Logs, addresses.logs),
        (Source::Files, addresses.files),
        (Source::Address(further), further),
    ];
    for (source, address) in sources {
        let client = testnet.http_client().source(source).build()?;
        for host in ["n1".to_owned(), format!("n1.{}", addresses.domain), format!("[{}]", n1.address())] {
            let answer = client.get(format!("http://{host}:8000/health"))?.succeed()?;
            ensure!(answer.text() == address.to_string(), "{host}: {source:?} is seen as {}", answer.text());
            ensure!(answer.header("x-kind") == Some("test"), "{host}: {answer:?}");
        }
    }
    let missing = testnet.http()?.get(n1.url(8000, "/nothing"))?;
    ensure!(missing.status() == 404, "{missing:?}");
    let said = missing.succeed().err().context("404 is success")?.to_string();
    ensure!(said.contains("returned status 404"), "{said}");
    let unknown = testnet.http()?.get("http://nobody:8000/").err().context("there is a VM nobody")?;
    ensure!(format!("{unknown:#}").contains("nobody"), "{unknown:#}");
    testnet.http()?.get(n1.url(8001, "/")).err().context("somebody listens at port 8001")?;
    let untrusted = testnet.http_client().trust("no certificate");
    ensure!(untrusted.is_err(), "what is no certificate is trusted");
    Ok(())
}

fn forks(testnet: &Group) -> anyhow::Result<()> {
    let (n1, image, update) = (testnet.vm("n1"), testnet.file(IMAGE)?, testnet.file(UPDATE)?);
    let faults = testnet.file_faults()?;
    ensure!(
        faults.len() == 1 && faults[0].fault == FileFault::status(503).of(IMAGE),
        "there are: {faults:?}"
    );
    let said = n1.succeed(&format!("curl -s -o /dev/null -w '%{{http_code}}' {}", image.url()))?;
    ensure!(said == "503", "the status is {said}");
    n1.succeed(&format!("curl -sSf -o u {}", update.url()))?;
    ensure!(sum(&n1, "u")? == update.sha256().to_string(), "the fork serves another");
    let undone = testnet.undo_file_faults()?;
    ensure!(undone.len() == 1, "undone are: {undone:?}");
    n1.succeed(&format!("curl -sSfI {}", image.url())).map(drop)
}
