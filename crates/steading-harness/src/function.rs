//! One function, in the process that was started for it inside the group.

use anyhow::Context as _;
use steading_api::chain;
use steading_plan::env_vars::STEADING_SOCKET;
use steading_report::{Event, Report};

use crate::exit_code;
use crate::group::{Group, Skip};
use crate::suite::Declared;

pub(crate) fn run(suite: &Declared, name: &str, report: &Report) -> u8 {
    let ran = || -> anyhow::Result<()> {
        let function = suite.tree.by_name(name);
        let function = function.with_context(|| format!("the suite has no function named {name:?}"))?;
        let socket = std::env::var(STEADING_SOCKET).with_context(|| {
            format!(
                "{STEADING_SOCKET} is not set\nhint: use the command `run`, which runs functions inside a group"
            )
        })?;
        let group = Group::connect(&socket, name, function.limit)?;
        (function.body)(&group)
    };
    match ran() {
        Ok(()) => exit_code::RETURNED_OK,
        Err(error) if error.is::<Skip>() => exit_code::RETURNED_SKIP,
        Err(error) => {
            report.tell(&Event::Error { message: chain(error.as_ref()) });
            exit_code::RETURNED_ERROR
        }
    }
}
