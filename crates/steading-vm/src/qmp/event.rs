//! What QEMU tells unasked.

use jiff::Timestamp;
use serde_json::Value;

/// Why a machine stops or starts over (`ShutdownCause` in `qapi/run-state.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// An error of the host.
    HostError,
    /// The command `quit`.
    HostQuit,
    /// The command `system_reset`.
    HostReset,
    /// A signal to QEMU.
    HostSignal,
    /// A user interface.
    HostUi,
    /// The guest turned itself off.
    GuestShutdown,
    /// The guest reset itself.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// A part of the machine reset it.
    SubsystemReset,
    /// One that this program does not know, or none.
    Other(String),
}

impl From<&str> for StopCause {
    fn from(name: &str) -> Self {
        match name {
            "host-error" => Self::HostError,
            "host-qmp-quit" => Self::HostQuit,
            "host-qmp-system-reset" => Self::HostReset,
            "host-signal" => Self::HostSignal,
            "host-ui" => Self::HostUi,
            "guest-shutdown" => Self::GuestShutdown,
            "guest-reset" => Self::GuestReset,
            "guest-panic" => Self::GuestPanic,
            "subsystem-reset" => Self::SubsystemReset,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// An event of a VM.
#[derive(Debug, Clone, PartialEq)]
pub enum QmpEvent {
    /// The machine has shut down; QEMU ends unless it was started with `-no-shutdown`.
    Shutdown {
        /// The guest wanted it.
        guest: bool,
        /// Why.
        reason: StopCause,
    },
    /// The guest was asked, by ACPI, to power down. Whether it will is another question.
    Powerdown,
    /// The machine starts over.
    Reset {
        /// The guest wanted it.
        guest: bool,
        /// Why.
        reason: StopCause,
    },
    /// The CPUs are paused.
    Stop,
    /// The CPUs run.
    Resume,
    /// The guest's kernel panicked and told so (needs a pvpanic device).
    GuestPanicked {
        /// What QEMU does: `pause`, `poweroff`, `run`.
        action: String,
        /// More about it, if the guest told.
        info: Option<Value>,
    },
    /// The guest has suspended itself, to memory or to its disk.
    Suspended,
    /// The guest goes on after it had suspended itself.
    Woken,
    /// A disk could not be read or written. With `action` stop the CPUs are paused now.
    BlockIoError {
        /// The disk.
        device: String,
        /// `read` or `write`.
        operation: String,
        /// `stop`, `report` or `ignore`.
        action: String,
        /// The host has no space left.
        no_space: bool,
        /// In words.
        reason: String,
    },
    /// A migration, hence a freeze or a fork, has come further.
    Migration {
        /// `setup`, `active`, `completed`, `failed`, …
        status: String,
    },
    /// Any other.
    Other {
        /// Its name.
        name: String,
        /// Its data.
        data: Value,
    },
}

/// An event with QEMU's time for it.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedEvent {
    /// By the host's clock. None if QEMU could not tell.
    pub time: Option<Timestamp>,
    /// What happened.
    pub event: QmpEvent,
}

impl TimedEvent {
    /// Reads `message` if it is an event.
    pub fn parse(message: &Value) -> Option<Self> {
        let name = message.get("event")?.as_str()?;
        let data = message.get("data").unwrap_or(&Value::Null);
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or_default();
        let reason = || StopCause::from(data.get("reason").and_then(Value::as_str).unwrap_or_default());
        let event = match name {
            "SHUTDOWN" => QmpEvent::Shutdown { guest: flag("guest"), reason: reason() },
            "POWERDOWN" => QmpEvent::Powerdown,
            "RESET" => QmpEvent::Reset { guest: flag("guest"), reason: reason() },
            "STOP" => QmpEvent::Stop,
            "RESUME" => QmpEvent::Resume,
            // To a disk is the same to whoever looks on: QEMU powers the machine off then.
            "SUSPEND" | "SUSPEND_DISK" => QmpEvent::Suspended,
            "WAKEUP" => QmpEvent::Woken,
            "GUEST_PANICKED" => {
                QmpEvent::GuestPanicked { action: text("action"), info: data.get("info").cloned() }
            }
            "BLOCK_IO_ERROR" => QmpEvent::BlockIoError {
                device: Some(text("device"))
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| text("node-name")),
                operation: text("operation"),
                action: text("action"),
                no_space: flag("nospace"),
                reason: text("reason"),
            },
            "MIGRATION" => QmpEvent::Migration { status: text("status") },
            _ => QmpEvent::Other { name: name.to_owned(), data: data.clone() },
        };
        Some(Self { time: message.get("timestamp").and_then(time), event })
    }
}

/// QEMU gives -1 for both parts when it could not read its clock.
fn time(stamp: &Value) -> Option<Timestamp> {
    let seconds = stamp.get("seconds")?.as_i64()?;
    let micros = stamp.get("microseconds")?.as_i64().filter(|&micros| micros >= 0)?;
    Timestamp::new(seconds, i32::try_from(micros.checked_mul(1000)?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(message: &Value) -> QmpEvent {
        TimedEvent::parse(message).expect("an event").event
    }

    #[test]
    fn events_are_read_with_their_time() {
        let message = json!({
            "timestamp": {"seconds": 1_800_000_000, "microseconds": 250_000},
            "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"},
        });
        let timed = TimedEvent::parse(&message).expect("an event");
        assert_eq!(timed.time.map(Timestamp::as_millisecond), Some(1_800_000_000_250));
        assert_eq!(timed.event, QmpEvent::Shutdown { guest: true, reason: StopCause::GuestShutdown });
    }

    #[test]
    fn a_full_disk_of_the_host_is_told() {
        let message = json!({"event": "BLOCK_IO_ERROR", "data": {
            "device": "", "node-name": "root", "operation": "write", "action": "stop", "nospace": true,
            "reason": "No space left on device",
        }});
        assert!(
            matches!(event(&message), QmpEvent::BlockIoError { device, no_space: true, .. } if device == "root")
        );
    }

    #[test]
    fn an_event_of_a_later_qemu_is_kept_whole() {
        let message =
            json!({"event": "NEW", "data": {"x": 1}, "timestamp": {"seconds": -1, "microseconds": -1}});
        let timed = TimedEvent::parse(&message).expect("an event");
        assert_eq!(timed.time, None);
        assert_eq!(timed.event, QmpEvent::Other { name: "NEW".to_owned(), data: json!({"x": 1}) });
        let message = json!({"event": "RESET", "data": {"guest": false, "reason": "new"}});
        let reason = StopCause::Other("new".to_owned());
        assert_eq!(event(&message), QmpEvent::Reset { guest: false, reason });
    }

    #[test]
    fn an_answer_is_no_event() {
        assert_eq!(TimedEvent::parse(&json!({"return": {}, "id": 1})), None);
    }
}
