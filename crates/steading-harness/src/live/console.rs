//! A VM's console in this terminal, both ways.

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::exit_code;
use crate::live::find::LiveGroup;
use crate::live::terminal::Raw;

/// Ctrl-], as in telnet(1).
const ESCAPE: u8 = 0x1d;

/// Shows the console until its group ends, the input does, or Ctrl-] is typed.
pub(crate) async fn open(group: &LiveGroup, vm: &str) -> anyhow::Result<u8> {
    group.vm(vm)?;
    let mut output = group.client.console_output(vm).await?;
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    // What was said last tells where one is.
    let raw = Raw::enter().context("cannot put the terminal into raw mode")?;
    let line_end = if raw.is_some() { "\r\n" } else { "\n" };
    for line in group.client.console_tail(vm).await? {
        stdout.write_all(format!("{line}{line_end}").as_bytes()).await?;
    }
    stdout.flush().await?;
    let (mut buffer, mut input_ended) = ([0; 1024], false);
    loop {
        tokio::select! {
            said = output.next() => match said? {
                Some(bytes) => {
                    stdout.write_all(&bytes).await?;
                    stdout.flush().await?;
                }
                None => return Ok(exit_code::PASSED),
            },
            read = stdin.read(&mut buffer), if !input_ended => {
                let typed = &buffer[..read?];
                // A file as input is typed, and then it is looked on until Ctrl-C.
                input_ended = typed.is_empty();
                let escape = typed.iter().position(|&byte| byte == ESCAPE && raw.is_some());
                let typed = &typed[..escape.unwrap_or(typed.len())];
                if !typed.is_empty() {
                    group.client.type_on_console(vm, typed).await?;
                }
                if escape.is_some() {
                    return Ok(exit_code::PASSED);
                }
            }
        }
    }
}
