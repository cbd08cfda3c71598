//! Runs one program, in any language, inside a testnet: `steading run TOPOLOGY -- COMMAND`.

use rustix::process::Signal;
use steading_api::{
    CA_NAME, Client, ClientError, DIRECTORY_FD, FACTS_NAME, GroupStatus, KEY_NAME, ProcessEvent, ProcessSpec,
    socket_path,
};
use steading_plan::{Testnet, env_vars};
use steading_report::{Event, Report};
use steading_sys::signal::Signals;

use crate::broker::Copies;
use crate::exit_code;
use crate::run::watch::{News, Told, Watch, redrawing};
use crate::run::{Start, Up, bring_up, fail};
use crate::up_args::UpArgs;

/// What the log calls the program.
const NAME: &str = "command";

/// What a shell says of a program that a signal has ended, less the signal's number.
const SIGNALLED: i32 = 128;

/// Brings the testnet up, runs the program, tears it down. The exit status is the program's, once
/// it was started.
pub fn run_command(group: &str, testnet: &Testnet, up: &UpArgs, argv: &[String], report: &Report) -> u8 {
    match bring_up(group, &|| Ok(testnet.clone()), &Start::of(up, Copies::One), report) {
        Ok(up) => command_in(up, argv, report),
        Err((code, error)) => fail(report, code, &error),
    }
}

/// Runs the program in a group that is up, and tears that down.
pub(crate) fn command_in(up: Up, argv: &[String], report: &Report) -> u8 {
    let Up { owner, log_dir, .. } = up;
    let client = Client::new(socket_path(owner.pid()));
    let mut told = Told::default();
    let ran = crate::live::wait_for(async {
        let status = follow(owner.pid(), &client, argv, report, &mut told).await;
        // When it cannot be asked it has ended.
        let _ = client.tear_down().await;
        status
    });
    if ran.is_err() {
        owner.kill();
    }
    let problems = owner.wait_for_farewell().unwrap_or_default();
    for problem in problems.lines().filter(|problem| told.add(problem)) {
        report.tell(&Event::Warning { message: problem.to_owned() });
    }
    match ran {
        Ok(status) => {
            report.tell(&Event::CommandEnded { status, log_dir: log_dir.into_string() });
            status
        }
        Err(error) => fail(report, exit_code::HOST, &error),
    }
}

/// What may come while the program runs.
enum Come {
    Event(Result<Option<ProcessEvent>, ClientError>),
    News(Option<News>),
    Signal(std::io::Result<Signal>),
}

async fn follow(
    owner: i32,
    client: &Client,
    argv: &[String],
    report: &Report,
    told: &mut Told,
) -> anyhow::Result<u8> {
    let mut watch = Watch::begin(client).await?;
    let signals = Signals::open(&[Signal::INT, Signal::TERM])?;
    let status = client.status().await?;
    let spec = ProcessSpec { name: NAME.to_owned(), argv: argv.to_vec(), env: facts(owner, &status) };
    let mut events = client.start_process(&spec).await?;
    let (mut pid, mut was_told, mut is_watching) = (None, false, true);
    loop {
        let come = redrawing(report, async {
            tokio::select! {
                event = events.next() => Come::Event(event),
                news = watch.next(), if is_watching => Come::News(news),
                signal = signals.next() => Come::Signal(signal),
            }
        });
        match come.await {
            Come::Event(event) => match event? {
                None => anyhow::bail!("the group has ended"),
                Some(ProcessEvent::Started { pid: number }) => pid = Some(number),
                Some(ProcessEvent::Line { text }) => report.print(&text),
                Some(ProcessEvent::Note { .. }) => {}
                Some(ProcessEvent::Ended { status, signal, left }) => {
                    if !left.is_empty() {
                        report.tell(&Event::Left { name: NAME.to_owned(), processes: left });
                    }
                    let status = status.unwrap_or_else(|| SIGNALLED + signal.unwrap_or(0));
                    return Ok(u8::try_from(status).unwrap_or(exit_code::FAILED));
                }
            },
            Come::News(Some(News::Vm(vm, sign))) => report.tell(&Event::Vm { vm, sign }),
            Come::News(Some(News::Problem(message))) => {
                told.add(&message);
                report.tell(&Event::Warning { message });
            }
            Come::News(None) => is_watching = false,
            Come::Signal(signal) => {
                signal?;
                report.tell(&Event::Interrupted { again: was_told });
                anyhow::ensure!(!was_told, "interrupted twice");
                was_told = true;
                if let Some(pid) = pid {
                    // It may have ended by itself meanwhile; its end comes in any case.
                    let _ = client.end_process(pid).await;
                }
            }
        }
    }
}

/// What the program is told, as variables of its environment.
fn facts(owner: i32, status: &GroupStatus) -> Vec<(String, String)> {
    // The owner is PID 1 of the namespace that the program runs in, if it has one.
    let owner = if status.has_namespaces { 1 } else { owner };
    let private = |name: &str| format!("/proc/{owner}/fd/{DIRECTORY_FD}/{name}");
    let plan = &status.plan;
    let mut facts = vec![
        (env_vars::STEADING_GROUP.to_owned(), plan.group.to_string()),
        (env_vars::STEADING_DOMAIN.to_owned(), plan.addresses.domain.clone()),
        (env_vars::STEADING_LOG_DIR.to_owned(), status.log_dir.clone()),
        (env_vars::STEADING_FACTS.to_owned(), private(FACTS_NAME)),
        (env_vars::STEADING_SSH_KEY.to_owned(), private(KEY_NAME)),
        (env_vars::STEADING_CA.to_owned(), private(CA_NAME)),
    ];
    for vm in &plan.vms {
        facts.push((variable(vm.name.as_str()), vm.address.to_string()));
    }
    facts
}

/// The prefix and the name as shells take it (POSIX.1-2017, Base Definitions, 8.1).
fn variable(vm: &str) -> String {
    let upper = vm.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    env_vars::STEADING_VM_PREFIX.chars().chain(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vms_variable_is_a_name_that_shells_take() {
        assert_eq!(variable("node-1"), "STEADING_VM_NODE_1");
    }
}
