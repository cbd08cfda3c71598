//! Makes and removes the network of a group in the host's own network namespace, for drivers on hosts that
//! have no user namespaces for them.
//!
//! It has three file capabilities and is started by users who have none, so it does little: a closed set of
//! verbs on names. `docs/design/launcher.md` tells its threat model.

#![forbid(unsafe_code)]

mod caller;
mod handover;
mod netlink;
mod network;
mod router;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use steading_plan::LaunchRequest;

use caller::Caller;
use handover::Handover;
use netlink::Netlink;

const HELP: &str = "\
Makes the network of a group of Steading where there are no user namespaces. The driver starts it.

Usage: steading-launcher VERB

  make GROUP [VM|VM+ipv4]...    make the network of a group, hand over its TAPs and the sockets of its services
                                by the socket at standard input, and remove it when that is closed
  router GROUP [VM|VM+ipv4]...  become the group's router daemon
  gc                            remove what is left of your groups whose launchers have ended
  check                         say whether it has what it needs
";

/// An output that is full, or that nobody reads, is an error here: the caller has asked for what is in it.
const OUTPUT: &str = "cannot write to standard output";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The hint of the innermost comes last.
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            let (mut said, mut hints) = (Vec::new(), Vec::new());
            for text in &chain {
                let (what, hint) = text
                    .split_once("\nhint: ")
                    .map_or((text.as_str(), None), |(what, hint)| (what, Some(hint)));
                said.push(what);
                hints.extend(hint);
            }
            // When it cannot be told, the status tells.
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "{}", said.join(": "));
            for hint in hints {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let words: Option<Vec<String>> =
        std::env::args_os().skip(1).map(|word| word.into_string().ok()).collect();
    let words = words.context("an argument is not UTF-8")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (verb, operands) = words.split_first().context("no verb was given\nhint: --help lists them")?;
    let none = || -> anyhow::Result<()> {
        ensure!(operands.is_empty(), "{verb} takes no arguments");
        Ok(())
    };
    match *verb {
        "make" => {
            let request = LaunchRequest::parse(operands.iter().copied())?;
            let caller = Caller::enter()?;
            let handover = Handover::take()?;
            let mut netlink = Netlink::open()?;
            network::make(&mut netlink, &request, &caller, &handover)?;
            let ended = caller::keep_removal_only().and_then(|()| handover.wait_for_end());
            network::undo_request(&mut netlink, &request, &caller)?;
            ended
        }
        "router" => {
            let request = LaunchRequest::parse(operands.iter().copied())?;
            let caller = Caller::enter()?;
            network::check_ours(&mut Netlink::open()?, &request, &caller)?;
            router::become_router(&request)
        }
        "gc" => {
            none()?;
            let caller = Caller::enter()?;
            for removed in network::collect(&mut Netlink::open()?, &caller)? {
                writeln!(std::io::stdout(), "{removed}").context(OUTPUT)?;
            }
            Ok(())
        }
        "check" => {
            none()?;
            Caller::enter().map(drop)
        }
        "--help" | "-h" => write!(std::io::stdout(), "{HELP}").context(OUTPUT),
        _ => bail!("there is no verb {verb:?}\nhint: --help lists them"),
    }
}
