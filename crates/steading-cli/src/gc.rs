//! `steading gc`: removes what killed drivers left behind.

use steading_harness::exit_code;
use steading_harness::prepare::{Collected, collect_what_is_left};
use steading_report::output::{eprintln, println};

pub(crate) fn collect() -> anyhow::Result<u8> {
    let collected = collect_what_is_left()?;
    let Collected { processes, directories, interfaces } = &collected;
    if collected.is_empty() {
        eprintln!("nothing to remove");
    }
    if *processes > 0 {
        println!("processes: {processes}");
    }
    for directory in directories {
        println!("directory: {directory}");
    }
    for interface in interfaces {
        println!("interface: {interface}");
    }
    Ok(exit_code::PASSED)
}
