//! Events as lines for people: talk on standard error, results on standard output, nothing that
//! moves, and nothing that needs colour to be understood.

use std::time::Instant;

use anstream::{eprintln, println};
use owo_colors::OwoColorize as _;

use crate::{Event, Outcome, Summary, Wait};

/// Prints events as they come.
#[derive(Debug)]
pub struct Report {
    began: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// A report that counts its seconds from now.
    pub fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// Prints a line of data.
    pub fn print(&self, line: &str) {
        println!("{line}");
    }

    /// Prints an event.
    pub fn tell(&self, event: &Event) {
        let seconds = self.began.elapsed().as_secs_f64();
        match event {
            Event::Planned { suite, resources, vms, acceleration, reason } => {
                let plural = if vms.len() == 1 { "" } else { "s" };
                eprintln!("{} {} VM{plural}, {resources}", format!("{suite}:").bold(), vms.len());
                for (name, address) in vms {
                    eprintln!("  {name:<16} {address}");
                }
                eprintln!("  runs by {acceleration}: {reason}");
            }
            Event::Vm { vm, what } => {
                eprintln!("{seconds:>7.1} s  {}", format!("VM {vm}: {what}").dimmed());
            }
            Event::Kept { name, file } => {
                println!("the testnet as it was when {name} failed: steading resume {file}");
            }
            Event::Warm { what } => eprintln!("{seconds:>7.1} s  the testnet: {what}"),
            Event::Preparing { vm, what } => eprintln!("{seconds:>7.1} s  VM {vm}: {what} …"),
            Event::Started { name } => eprintln!("{seconds:>7.1} s  {name} …"),
            Event::Line { name, text } => {
                eprintln!("{seconds:>7.1} s  {} {text}", format!("{name}|").dimmed());
            }
            Event::Ended { name, outcome, seconds: took } => {
                let verdict = verdict(outcome);
                eprintln!("{seconds:>7.1} s  {name} {verdict} ({took:.1} s)");
            }
            Event::Retried { name, failure, attempt: (attempt, of) } => {
                let failed = "failed".yellow();
                eprintln!("{seconds:>7.1} s  {name} {failed}: {failure}; attempt {attempt} of {of} …");
            }
            Event::Waits { functions, vms } => {
                if functions.is_empty() {
                    eprintln!("{seconds:>7.1} s  no function runs");
                }
                for wait in functions {
                    eprintln!("{seconds:>7.1} s  {}", waits(wait));
                }
                for (vm, state) in vms {
                    eprintln!("{seconds:>7.1} s  VM {vm} is {state}");
                }
            }
            Event::Left { name, processes } => {
                eprintln!("{seconds:>7.1} s  {name} had left running, now ended: {}", processes.join("; "));
            }
            Event::Interrupted { again: false } => {
                eprintln!(
                    "{seconds:>7.1} s  interrupted: ending what runs; once more ends everything at once"
                );
            }
            Event::Interrupted { again: true } => {
                eprintln!("{seconds:>7.1} s  interrupted again: ending at once");
            }
            Event::CommandEnded { status, log_dir } => {
                eprintln!("{seconds:>7.1} s  the command has ended with status {status}; logs: {log_dir}");
            }
            Event::Staying { socket, owner } => {
                eprintln!("{seconds:>7.1} s  the testnet is up; Ctrl-C ends it");
                eprintln!(
                    "  a shell inside its network: nsenter --user --preserve-credentials --net --target {owner}"
                );
                eprintln!("  its control API: {socket}");
            }
            Event::Warning { message } => eprintln!("{} {message}", "warning:".yellow().bold()),
            Event::Error { message } => eprintln!("{} {message}", "error:".red().bold()),
            Event::Finished { summary, log_dir, report, again } => {
                finished(summary, log_dir, report.as_deref(), again.as_deref());
            }
        }
    }
}

fn waits(wait: &Wait) -> String {
    let Wait { name, seconds, what } = wait;
    match what {
        Some((what, since)) => format!("{name} has run for {seconds:.0} s; for {since:.0} s: {what}"),
        None => format!("{name} has run for {seconds:.0} s and waits for nothing that we know of"),
    }
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => format!("{}", "passed".green()),
        Outcome::Flaky { attempt, before } => {
            format!("{} at attempt {attempt}; the one before {before}", "flaky: passed".yellow())
        }
        Outcome::Failed(failure) => format!("{}: {failure}", "FAILED".red().bold()),
        Outcome::Skipped { reason } => format!("{}: {reason}", "skipped".yellow()),
    }
}

fn finished(summary: &Summary, log_dir: &str, report: Option<&str>, again: Option<&str>) {
    for row in summary.rows() {
        if let Outcome::Failed(failure) = &row.outcome {
            println!();
            let said = if row.lines.is_empty() { "" } else { "; it said last:" };
            println!("{} {} {failure}{said}", "FAILED".red().bold(), row.name.bold());
            for line in &row.lines {
                println!("    {line}");
            }
        }
    }
    if summary.failed() > 0 && !summary.warnings().is_empty() {
        println!();
        println!("{}", "while it ran:".bold());
        for warning in summary.warnings() {
            println!("    {warning}");
        }
    }
    println!();
    for row in summary.rows() {
        println!("{:>7.1} s  {:<44} {}", row.seconds, row.name, verdict(&row.outcome));
    }
    println!("logs: {log_dir}");
    if let Some(report) = report {
        println!("report: {report}");
    }
    if let Some(again) = again {
        println!("again, and look into the testnet: {again}");
    }
    for metric in summary.metrics() {
        println!("measured: {} = {} ({})", metric.name, metric.value, metric.function);
    }
    let flaky = match summary.flaky() {
        0 => String::new(),
        count => format!(", {count} flaky"),
    };
    let (passed, failed, skipped) = (summary.passed(), summary.failed(), summary.skipped());
    println!("{passed} passed, {failed} failed, {skipped} skipped{flaky}");
}
