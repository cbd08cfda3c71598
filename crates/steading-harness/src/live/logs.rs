//! The command `logs`: prints a group's log, and follows it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use steading_logs::{LogReader, Record, Skipped, Stream};
use steading_report::output::{Stderr, Stdout};

use crate::exit_code;
use crate::groups::LiveGroup;

/// Arguments of `logs`.
#[derive(Args, Clone, Debug, Default)]
pub struct LogsArgs {
    /// Follow the log until the group ends.
    #[arg(long, short)]
    follow: bool,
    /// Only lines of this VM; can be repeated.
    #[arg(long, value_name = "VM")]
    vm: Vec<String>,
    /// Only lines of this systemd unit.
    #[arg(long, short, value_name = "UNIT")]
    unit: Option<String>,
    /// Only lines of this stream: console, journal, driver or test.
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Only lines that match this regular expression.
    #[arg(long, value_name = "PATTERN")]
    grep: Option<Regex>,
    /// Only lines newer than a duration ago (10s, 5min, 2h) or a time (2026-01-31T12:00:00Z).
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Print JSON, one record per line, as in log.jsonl.
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let before: SignedDuration =
        text.parse().map_err(|_| "expected a duration (10s, 5min, 2h) or a time (RFC 3339)".to_owned())?;
    Timestamp::now().checked_sub(before).map_err(|error| error.to_string())
}

impl LogsArgs {
    fn wants(&self, record: &Record) -> bool {
        let vm = record.vm.as_ref().map(steading_plan::VmName::as_str);
        // A unit is named with or without its ending, as systemctl(1) takes it.
        let is_unit = |wanted: &String| {
            record
                .unit
                .as_deref()
                .is_some_and(|unit| unit == wanted || unit.strip_suffix(".service") == Some(wanted))
        };
        (self.vm.is_empty() || vm.is_some_and(|vm| self.vm.iter().any(|wanted| wanted == vm)))
            && self.unit.as_ref().is_none_or(is_unit)
            && self.stream.as_ref().is_none_or(|stream| record.stream.as_str() == stream)
            && self.since.is_none_or(|since| record.time >= since)
            && self.grep.as_ref().is_none_or(|pattern| pattern.is_match(&record.message))
    }
}

/// Prints it.
pub(crate) async fn print(group: &LiveGroup, args: &LogsArgs) -> anyhow::Result<u8> {
    for vm in &args.vm {
        group.vm(vm)?;
    }
    let streams = [Stream::Console, Stream::Journal, Stream::Driver, Stream::Test].map(Stream::as_str);
    if let Some(stream) = args.stream.as_deref().filter(|stream| !streams.contains(stream)) {
        anyhow::bail!("unknown stream {stream:?} (expected one of: {})", streams.join(", "));
    }
    let stream =
        if args.follow { group.client.log_from(0).await } else { group.client.log_until_now(0).await };
    let mut stream = stream?;
    let pieces = Pieces::default();
    let mut reader = LogReader::new(BufReader::new(pieces.clone()));
    loop {
        let piece = match stream.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            // The group was killed, which ends its log.
            Err(_) if args.follow => break,
            Err(error) => return Err(error).context("cannot read the group's log"),
        };
        pieces.push(&piece);
        print_new(&mut reader, args).context("cannot read the group's log")?;
    }
    let skipped = reader.skipped();
    // The end of a log that grows is torn at any time.
    if let Some(told) = (Skipped { torn: false, ..skipped }).told() {
        writeln!(Stderr, "note: {told}")?;
    }
    Ok(exit_code::PASSED)
}

/// The bytes of the log that have come and were not read yet, for a reader of files.
#[derive(Clone, Debug, Default)]
struct Pieces(Rc<RefCell<VecDeque<u8>>>);

impl Pieces {
    fn push(&self, piece: &[u8]) {
        self.0.borrow_mut().extend(piece);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

fn print_new<R: BufRead>(reader: &mut LogReader<R>, args: &LogsArgs) -> anyhow::Result<()> {
    let mut stdout = std::io::BufWriter::new(Stdout);
    while let Some(record) = reader.next_record()? {
        if !args.wants(&record) {
            continue;
        }
        if args.json {
            stdout.write_all(reader.line())?;
            stdout.write_all(b"\n")?;
        } else {
            writeln!(stdout, "{}", shown(&record))?;
        }
    }
    Ok(stdout.flush()?)
}

/// A record for people: a line for each of its lines, all with its source.
fn shown(record: &Record) -> String {
    let source = record.vm.as_ref().map_or("-", steading_plan::VmName::as_str);
    let time = record.time.strftime("%H:%M:%S%.3f");
    let said = record.said();
    let lines = said.lines().chain(said.is_empty().then_some("")).enumerate().map(|(number, line)| {
        let mark = if number == 0 { "" } else { "…" };
        format!("{time} {source} {} {mark}{line}", record.stream.as_str())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(vm: &str, unit: &str, message: &str) -> Record {
        let mut record = Record::new(Timestamp::UNIX_EPOCH, vm.parse().ok(), Stream::Journal, message);
        record.unit = Some(unit.to_owned());
        record
    }

    #[test]
    fn lines_are_chosen_by_vm_unit_stream_time_and_text() {
        let etcd = record("n1", "etcd.service", "elected leader");
        let wants = |args: LogsArgs| args.wants(&etcd);
        assert!(wants(LogsArgs::default()));
        assert!(wants(LogsArgs { vm: vec!["n2".to_owned(), "n1".to_owned()], ..LogsArgs::default() }));
        assert!(!wants(LogsArgs { vm: vec!["n2".to_owned()], ..LogsArgs::default() }));
        assert!(wants(LogsArgs { unit: Some("etcd".to_owned()), ..LogsArgs::default() }));
        assert!(!wants(LogsArgs { unit: Some("etc".to_owned()), ..LogsArgs::default() }));
        assert!(!wants(LogsArgs { stream: Some("console".to_owned()), ..LogsArgs::default() }));
        assert!(wants(LogsArgs { grep: Regex::new("elected").ok(), ..LogsArgs::default() }));
        assert!(!wants(LogsArgs { since: Some(Timestamp::now()), ..LogsArgs::default() }));
    }

    #[test]
    fn a_line_within_a_record_cannot_be_taken_for_another_record() {
        let shown = shown(&record("n1", "etcd.service", "one\n00:00:00.000 n2 journal forged"));
        let lines: Vec<_> = shown.lines().map(|line| line.split_once(" n1 journal ").unwrap().1).collect();
        assert_eq!(lines, ["etcd.service: one", "…00:00:00.000 n2 journal forged"]);
    }

    #[test]
    fn a_time_is_a_moment_or_so_long_ago() {
        assert_eq!(since("1970-01-01T00:00:00Z"), Ok(Timestamp::UNIX_EPOCH));
        assert!(since("10s").is_ok_and(|time| time < Timestamp::now()));
        assert!(since("5min").is_ok() && since("yesterday").is_err());
    }
}
