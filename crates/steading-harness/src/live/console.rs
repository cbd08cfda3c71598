//! The command `console`: a VM's console in this terminal, both ways.

use anyhow::Context as _;
use rustix::process::Signal;
use steading_report::output::Output;
use steading_sys::signal::{ENDING, Signals, not_ignored};

use crate::exit_code;
use crate::groups::LiveGroup;
use crate::input::StandardInput;
use crate::terminal::Raw;

/// Ctrl-], as in telnet(1).
const ESCAPE: u8 = 0x1d;

/// The exit status for a program that a signal has ended, less the number of the signal.
const SIGNALLED: i32 = 128;

/// Shows the console until its group ends, Ctrl-] is typed, or a signal comes.
pub(crate) async fn open(group: &LiveGroup, vm: &str) -> anyhow::Result<u8> {
    group.vm(vm)?;
    let mut output = group.client.console_output(vm).await?;
    let tail = group.client.console_tail(vm).await?;
    let mut signals = not_ignored(&ENDING);
    // After SIGCONT this program may be in the foreground again.
    signals.push(Signal::CONT);
    // Before the terminal is changed: it is put back on the way out only.
    let signals = Signals::open(&signals).context("cannot wait for signals")?;
    let mut input = StandardInput::open();
    let raw = Raw::enter().context("cannot put the terminal into raw mode")?;
    let line_end = if raw.is_some() { "\r\n" } else { "\n" };
    // What was said last tells where one is.
    show(tail.iter().flat_map(|line| [line, line_end]).collect::<String>().into_bytes()).await?;
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            said = output.next() => match said? {
                Some(bytes) => show(bytes.to_vec()).await?,
                None => return Ok(exit_code::PASSED),
            },
            read = input.read(&mut buffer), if !matches!(input, StandardInput::Nothing) => {
                let typed = &buffer[..read?];
                if typed.is_empty() {
                    // A file as input is typed, and then it is looked on until a signal comes.
                    input = StandardInput::Nothing;
                }
                let escape = typed.iter().position(|&byte| byte == ESCAPE && raw.is_some());
                let typed = &typed[..escape.unwrap_or(typed.len())];
                if !typed.is_empty() {
                    group.client.type_on_console(vm, typed).await?;
                }
                if escape.is_some() {
                    return Ok(exit_code::PASSED);
                }
            }
            signal = signals.next() => match signal? {
                Signal::CONT => {}
                signal => {
                    drop(raw);
                    return Ok(u8::try_from(SIGNALLED + signal.as_raw()).unwrap_or(exit_code::FAILED));
                }
            },
        }
    }
}

/// Signals are still answered while this waits for its reader.
async fn show(bytes: Vec<u8>) -> anyhow::Result<()> {
    let written = tokio::task::spawn_blocking(move || Output::Stdout.write_bytes(&bytes)).await?;
    written.context("cannot write to standard output")
}
