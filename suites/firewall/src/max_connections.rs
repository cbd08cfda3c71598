//! The guest takes 1000 connections from one source, and no more. All of them are the test's: log
//! streams and the file server have addresses of their own.

use std::io::ErrorKind;
use std::net::Ipv6Addr;

use anyhow::{Context as _, bail, ensure};
use steading::{FileFault, FileSource, Group, Source, Vm};

use crate::{PORT, connection, logged, set_rules};

const MOST: usize = 1000;

/// How often in a row.
const ROUNDS: usize = 3;

/// A file that takes the guest a while to download.
const FILE: &str = "slow.img";
const SIZE: usize = 4_000_000;

pub(crate) fn test(testnet: &Group) -> anyhow::Result<()> {
    let fw = testnet.vm("fw");
    connection::allow_many()?;
    set_rules(
        &fw,
        &format!(
            "table inet firewall {{\n\
             set sources {{ type ipv6_addr; size 1024; flags dynamic; }}\n\
             chain input {{\n\
             type filter hook input priority 0; policy drop;\n\
             ct state established,related accept\n\
             meta l4proto 58 accept\n\
             iif lo accept\n\
             ip6 saddr {} accept\n\
             meta l4proto 6 ct state new add @sources {{ ip6 saddr ct count over {MOST} }} reject with tcp reset\n\
             meta l4proto 6 accept\n\
             }}\n}}\n",
            testnet.plan().addresses.prefix
        ),
    )?;
    let file = tempfile::NamedTempFile::new()?;
    fs_err::write(file.path(), content())?;
    let path = file.path().to_str().context("the temporary directory is no text")?;
    testnet.add_file(FileSource::new(path).name(FILE))?;
    for round in 1..=ROUNDS {
        one_round(testnet, &fw, round).with_context(|| format!("round {round} of {ROUNDS}"))?;
    }
    testnet.remove_file(FILE)?;
    set_rules(&fw, "")
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| u8::try_from(at % 253).unwrap_or_default()).collect()
}

fn one_round(testnet: &Group, fw: &Vm, round: usize) -> anyhow::Result<()> {
    let management = testnet.source_address(Source::Management)?;
    let target = (fw.address(), PORT);
    let image = testnet.file(FILE)?;
    // Slow enough to be under way all the time.
    let slow = testnet.file_fault(FileFault::slow(50_000).of(FILE))?;
    let marker = format!("round-{round}-{}", std::process::id());
    let line = format!(
        "systemctl reset-failed download talk 2>/dev/null; rm -f /run/download; \
         systemd-run -q -u download curl -sf -o /run/download {}; \
         systemd-run -q -u talk sh -c 'while sleep 0.2; do echo {marker}; done'",
        image.url()
    );
    let started = fw.execute_by_agent(&line)?;
    ensure!(started.status == 0, "cannot start what is to go on meanwhile: {started:?}");
    let talked_before = wait_until(fw, || logged(testnet, &marker), |count| *count > 0)?;

    let mut open = Vec::with_capacity(MOST);
    for number in 1..=MOST {
        let opened = connection::open(management, target);
        open.push(opened.with_context(|| format!("connection {number} of {MOST} is not accepted"))?);
    }
    match connection::open(management, target) {
        Ok(_) => bail!("connection {} is accepted", MOST + 1),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(error).context("one more is not refused, but fails"),
    }
    // Others have a budget of their own, those of the driver too.
    let further = Source::Address(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1));
    for source in [Source::Logs, Source::Files, further] {
        let address = testnet.source_address(source)?;
        connection::open(address, target).with_context(|| format!("{source:?}, which has one only"))?;
    }
    // What went on meanwhile does so still.
    let downloading = fw.execute_by_agent("systemctl is-active download")?.stdout;
    ensure!(downloading.trim() == "active", "the download is over: {downloading}");
    wait_until(fw, || logged(testnet, &marker), |count| *count > talked_before + 2)?;
    slow.undo()?;
    for stream in open {
        connection::close(stream).context("cannot close a connection")?;
    }
    let again =
        connection::open(management, target).context("one, after all were closed, is not accepted")?;
    connection::close(again)?;

    // The answer under way stays as slow as it began: a new one is not.
    let line = format!(
        "systemctl stop download talk; curl -sf -C - -o /run/download {} && sha256sum </run/download",
        image.url()
    );
    let sum = fw.execute_by_agent(&line)?;
    let wanted = image.sha256().to_string();
    ensure!(sum.stdout.starts_with(&wanted), "the download, resumed, is not {wanted}: {sum:?}");
    println!("round {round}: {MOST} connections accepted, the next refused");
    Ok(())
}

/// Asks until the answer is as it should be. In between the guest says a line or two.
fn wait_until<T: std::fmt::Debug>(
    fw: &Vm,
    ask: impl Fn() -> anyhow::Result<T>,
    is_good: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let limit = std::time::Duration::from_secs(30);
    let began = std::time::Instant::now();
    loop {
        let answer = ask()?;
        if is_good(&answer) {
            return Ok(answer);
        }
        ensure!(began.elapsed() < limit, "not within {limit:?}; it is {answer:?}");
        fw.execute_by_agent("sleep 0.3")?;
    }
}
