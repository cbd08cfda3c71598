//! `steading broker`: reservations and the queue for this machine, and the measured use of testnets.

use camino::Utf8Path;
use serde::Serialize;
use steading_broker::{Peak, Ticket, View, list_peaks};
use steading_harness::broker::{BrokerOptions, clock};
use steading_harness::exit_code;
use steading_harness::prepare::cache_dir;
use steading_plan::text;
use steading_report::output::println;

#[derive(Serialize)]
struct All<'a> {
    directory: &'a Utf8Path,
    #[serde(flatten)]
    view: &'a View,
    measured: &'a [Peak],
}

pub(crate) fn print(options: &BrokerOptions, json: bool) -> anyhow::Result<u8> {
    let Some(queue) = options.queue()? else {
        println!("the broker is off (--no-broker or STEADING_NO_BROKER): groups do not wait for each other");
        return Ok(exit_code::PASSED);
    };
    let (view, measured) = (queue.view()?, list_peaks(&cache_dir())?);
    let directory = queue.directory().path();
    if json {
        let all = All { directory, view: &view, measured: &measured };
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(exit_code::PASSED);
    }
    println!("directory   {directory}");
    println!("limits      {}; {} vCPUs per CPU", view.limits, view.limits.oversubscription);
    println!("reserved    {}", view.held());
    for ticket in view.holders() {
        println!("  {}", shown(ticket));
    }
    if view.waiting().next().is_some() {
        println!("waiting");
    }
    for (at, ticket) in view.waiting().enumerate() {
        println!("  {}. {}", at + 1, shown(ticket));
    }
    if !measured.is_empty() {
        println!("measured    peak use by your testnets, and what they declare");
    }
    for peak in &measured {
        let plural = if peak.runs == 1 { "" } else { "s" };
        println!(
            "  {:<24} {:>6} of {:>6} MiB   {:>5.2} CPUs busy of {} vCPUs   {} run{plural}",
            text::one_line(peak.group.as_str()),
            peak.memory_mib,
            peak.declared.total_mib(),
            peak.cpus,
            peak.declared.vcpus,
            peak.runs
        );
    }
    Ok(exit_code::PASSED)
}

fn shown(ticket: &Ticket) -> String {
    let who = user(ticket.uid);
    let Some(request) = &ticket.request else {
        return format!("unreadable ticket of {who} (another version of Steading)");
    };
    let since = match ticket.held_since {
        Some(held) => format!("since {}", clock(held)),
        None => format!("waiting since {}", clock(request.since)),
    };
    let pid = request.pid_here().map(|pid| format!(", process {pid}")).unwrap_or_default();
    let measured = request.measured_mib.map(|mib| format!(", measured {mib} MiB")).unwrap_or_default();
    // Anybody can write a ticket.
    let (group, program) = (text::one_line(&request.group), text::one_line(&request.program));
    format!("{group}: {}{measured}; {since}; {program} of {who}{pid}", request.needs)
}

/// A user's name (passwd(5)), or the number where it has none here.
fn user(uid: u32) -> String {
    let users = fs_err::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {uid}"))
}
