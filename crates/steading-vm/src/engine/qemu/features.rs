//! Asks the installed QEMU which features its emulated CPU has.
//!
//! A new QEMU emulates more, and a feature may only be turned off by name where it is known. So QEMU is
//! asked, as libvirt asks it: a process with no machine, which answers on its monitor and ends. The answer
//! is remembered for as long as the same QEMU is installed.

use std::io::Write as _;
use std::process::Stdio;

use camino::Utf8Path;
use serde_json::Value;
use steading_plan::slow_features;
use steading_sys::process::run_between;

use super::remembered::{Remembered, installed_qemu};
use super::{QEMU, QEMU_PACKAGE};

/// The model that guests get.
const MODEL: &str = "max";

/// The features to turn off for emulated guests: those of [`steading_plan::SLOW_CPU_FEATURES`] that the
/// installed QEMU has.
///
/// None where QEMU cannot be asked: `max` alone boots everywhere, if slower. Whatever keeps QEMU from
/// answering is reported when a VM is started.
pub fn disabled_features(cache: &Utf8Path) -> Vec<String> {
    let remembered = Remembered::new(cache, "features", &installed_qemu());
    if let Some(features) = remembered.recall() {
        return features;
    }
    let Some(features) = ask().and_then(|said| features_in(&said)) else { return Vec::new() };
    remembered.keep(&features);
    features
}

/// What QEMU's monitor says when it is asked for all features of the model; none when QEMU cannot be run.
fn ask() -> Option<String> {
    let expansion = format!(
        r#"{{"execute":"query-cpu-model-expansion","arguments":{{"type":"full","model":{{"name":"{MODEL}"}}}}}}"#
    );
    let commands = [r#"{"execute":"qmp_capabilities"}"#, &expansion, r#"{"execute":"quit"}"#];
    // A pipe holds much more than that.
    let (input, mut writer) = std::io::pipe().ok()?;
    writer.write_all(commands.join("\n").as_bytes()).ok()?;
    drop(writer);
    let machine = ["-machine", "none,accel=tcg", "-nodefaults", "-no-user-config"];
    let arguments = machine.into_iter().chain(["-display", "none", "-qmp", "stdio"]);
    let said = run_between(QEMU, QEMU_PACKAGE, arguments, input.into(), Stdio::piped()).ok()?;
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// Reads the answer among the lines of QMP (qapi/machine-target.json, `CpuModelExpansionInfo`).
fn features_in(said: &str) -> Option<Vec<String>> {
    let mut answers = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    answers.find_map(|answer| {
        let properties = answer.get("return")?.get("model")?.get("props")?.as_object()?;
        Some(slow_features(
            properties
                .iter()
                .filter(|(_, value)| **value == Value::Bool(true))
                .map(|(name, _)| name.as_str()),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_are_known_and_off_are_left_alone() {
        let said = r#"{"QMP": {}}
{"return": {}}
{"return": {"model": {"name": "max", "props": {"fsrm": false, "erms": true, "la57": true, "family": 15}}}}
{"return": {}}"#;
        assert_eq!(features_in(said), Some(vec!["la57".to_owned(), "erms".to_owned()]));
    }

    #[test]
    fn an_answer_that_is_an_error_tells_nothing() {
        assert_eq!(features_in(r#"{"error": {"class": "CommandNotFound", "desc": "unknown"}}"#), None);
        assert_eq!(features_in("qemu: cannot start"), None);
    }
}
