//! Events as lines for people: talk on standard error, results on standard output, nothing that
//! moves, and nothing that needs colour to be understood.

use std::time::Instant;

use anstream::{eprintln, println};
use owo_colors::OwoColorize as _;

use crate::{Event, Outcome, Summary};

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
                eprintln!("{} {} VMs, {resources}", format!("{suite}:").bold(), vms.len());
                for (name, address) in vms {
                    eprintln!("  {name:<16} {address}");
                }
                eprintln!("  runs by {acceleration}: {reason}");
            }
            Event::Started { name } => eprintln!("{seconds:>7.1} s  {name} …"),
            Event::Line { name, text } => {
                eprintln!("{seconds:>7.1} s  {} {text}", format!("{name}|").dimmed());
            }
            Event::Ended { name, outcome, seconds: took } => {
                let verdict = verdict(outcome);
                eprintln!("{seconds:>7.1} s  {name} {verdict} ({took:.1} s)");
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
            Event::Staying { socket, owner } => {
                eprintln!("{seconds:>7.1} s  the testnet is up; Ctrl-C ends it");
                eprintln!(
                    "  a shell inside its network: nsenter --user --preserve-credentials --net --target {owner}"
                );
                eprintln!("  its control API: {socket}");
            }
            Event::Error { message } => eprintln!("{} {message}", "error:".red().bold()),
            Event::Finished { summary, log_dir } => finished(summary, log_dir),
        }
    }
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => format!("{}", "passed".green()),
        Outcome::Failed(failure) => format!("{}: {failure}", "FAILED".red().bold()),
        Outcome::Skipped { reason } => format!("{}: {reason}", "skipped".yellow()),
    }
}

fn finished(summary: &Summary, log_dir: &str) {
    for row in summary.rows() {
        if let Outcome::Failed(failure) = &row.outcome {
            println!();
            println!("{} {} {failure}; it said last:", "FAILED".red().bold(), row.name.bold());
            for line in &row.lines {
                println!("    {line}");
            }
        }
    }
    println!();
    for row in summary.rows() {
        println!("{:>7.1} s  {:<44} {}", row.seconds, row.name, verdict(&row.outcome));
    }
    println!("logs: {log_dir}");
    println!("{} passed, {} failed, {} skipped", summary.passed(), summary.failed(), summary.skipped());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn a_summary_counts_each_function_once_and_keeps_lines_of_failures_only() {
        let mut summary = Summary::default();
        summary.add("a", Outcome::Passed, 1.0, vec!["said".to_owned()]);
        summary.add("b", Outcome::Failed(Failure::Panicked), 1.0, vec!["said".to_owned()]);
        summary.add("c", Outcome::Skipped { reason: "filter".to_owned() }, 0.0, Vec::new());
        assert_eq!((summary.passed(), summary.failed(), summary.skipped()), (1, 1, 1));
        assert!(summary.rows()[0].lines.is_empty());
        assert_eq!(summary.rows()[1].lines, ["said"]);
    }
}
