//! How fast journals are read: an export of many entries, parsed, merged and written, next to
//! journalctl(1) reading a file of the same entries.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use steading_logs::TestLog;
use steading_logs::journal::{ExportParser, FIELD_MAX, FollowEvent};
use steading_plan::VmName;

/// How much comes from a socket at once.
const PIECE: usize = 64 * 1024;

/// Where Debian has the program that makes journal files from exports.
const JOURNAL_REMOTE: &str = "/lib/systemd/systemd-journal-remote";

pub(crate) fn measure(entries: usize) -> anyhow::Result<()> {
    let export = export(entries)?;
    println!("{entries} entries, {} MiB as an export, on one core:", export.len() >> 20);
    let parsed = parse(&export, |_| {})?;
    println!("{}", row("parsed", entries, parsed));
    let ours = parse_and_write(&export)?;
    println!("{}", row("parsed, merged, written", entries, ours));
    match journalctl(&export, "export")? {
        Some(theirs) => {
            println!("{}", row("journalctl -o export", entries, theirs));
            println!(
                "{}",
                row("journalctl -o short", entries, journalctl(&export, "short")?.unwrap_or_default())
            );
            println!("ratio to -o export: {:.2}", ours.as_secs_f64() / theirs.as_secs_f64());
        }
        None => {
            println!("journalctl is left out: {JOURNAL_REMOTE} is not here (Debian: systemd-journal-remote)");
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 entries")]
fn row(what: &str, entries: usize, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let (rate, each) = (entries as f64 / seconds, seconds / entries as f64);
    format!("  {what:<26} {seconds:>6.2} s {rate:>10.0} entries/s {:>6.2} µs each", each * 1e6)
}

/// Entries as systemd writes them, with the fields of a service's line.
fn export(entries: usize) -> anyhow::Result<Vec<u8>> {
    const BOOT: &str = "8d5a4f0e6c0b4a4d9f0e2c4b6a8d0f12";
    let mut text = String::new();
    for number in 0..entries {
        let time = 1_790_000_000_000_000 + number * 50;
        write!(
            text,
            "__CURSOR=s=1b;i={number:x};b={BOOT};m={time:x};t={time:x};x={number:x}\n\
             __REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={BOOT}\n_MACHINE_ID={BOOT}\n\
             _HOSTNAME=n1\nPRIORITY=6\nSYSLOG_FACILITY=3\n_UID=0\n_GID=0\n_SYSTEMD_SLICE=system.slice\n\
             _TRANSPORT=stdout\n_CAP_EFFECTIVE=1ffffffffff\n_STREAM_ID={BOOT}\nSYSLOG_IDENTIFIER=etcd\n_PID=314\n\
             _COMM=etcd\n_EXE=/usr/bin/etcd\n_CMDLINE=/usr/bin/etcd --name n1\n_SYSTEMD_UNIT=etcd.service\n\
             MESSAGE=request {number} of peer 4f2c took too long to execute, expected 100ms\n\n",
        )?;
    }
    Ok(text.into_bytes())
}

fn parse(export: &[u8], mut take: impl FnMut(FollowEvent)) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut parser = ExportParser::new(FIELD_MAX, false);
    let mut entries = Vec::new();
    for piece in export.chunks(PIECE) {
        parser.push(piece, &mut entries);
        for entry in entries.drain(..) {
            take(FollowEvent::Entry(Box::new(entry?)));
        }
    }
    parser.finish()?;
    Ok(began.elapsed())
}

fn parse_and_write(export: &[u8]) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir()?;
    let mut log =
        TestLog::open(Utf8Path::from_path(dir.path()).context("the temporary directory is not UTF-8")?)?;
    let vm: VmName = "n1".parse()?;
    log.mark_boot(&vm);
    let began = Instant::now();
    parse(export, |event| log.journal_event(&vm, event))?;
    let problems = log.finish();
    anyhow::ensure!(problems.is_empty(), "the log could not be written: {problems:?}");
    Ok(began.elapsed())
}

/// How long journalctl takes; none without what makes a journal file.
fn journalctl(export: &[u8], format: &str) -> anyhow::Result<Option<Duration>> {
    if !Utf8Path::new(JOURNAL_REMOTE).exists() {
        return Ok(None);
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bench.journal");
    let mut maker = Command::new(JOURNAL_REMOTE)
        .arg("--output")
        .arg(&file)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    maker.stdin.take().context("it has an input")?.write_all(export)?;
    anyhow::ensure!(maker.wait()?.success(), "the export was not taken");
    let began = Instant::now();
    let mut reader = Command::new("journalctl");
    reader.arg("--file").arg(&file).args(["--no-pager", "-o", format]).stdout(Stdio::null());
    anyhow::ensure!(reader.status()?.success(), "journalctl failed");
    Ok(Some(began.elapsed()))
}
