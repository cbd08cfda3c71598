//! The commands that Steading uses, with types.

use std::os::fd::OwnedFd;

use camino::Utf8Path;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{QemuVersion, Qmp};
use super::error::{QmpError, beginning};

/// What a machine does (`RunState` in `qapi/run-state.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Held by a debugger.
    Debug,
    /// Taking in the state of another machine.
    Inmigrate,
    /// Held by an error of its own.
    InternalError,
    /// Held by an error of a disk.
    IoError,
    /// Held by `stop`.
    Paused,
    /// Held after its state was written out.
    Postmigrate,
    /// Not yet begun.
    Prelaunch,
    /// About to write out the rest of its state.
    FinishMigrate,
    /// Taking in a snapshot.
    RestoreVm,
    /// Running.
    Running,
    /// Writing a snapshot.
    SaveVm,
    /// Shut down, with QEMU staying.
    Shutdown,
    /// Suspended by the guest to memory.
    Suspended,
    /// Held by a watchdog.
    Watchdog,
    /// Held by a panic of the guest.
    GuestPanicked,
    /// One that this program does not know.
    #[serde(other)]
    Other,
}

/// The answer to `query-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The CPUs run.
    pub running: bool,
    /// What the machine does.
    pub status: RunState,
}

impl Qmp {
    /// Holds the CPUs.
    ///
    /// # Errors
    ///
    /// As [`Qmp::execute`]; so for all commands here.
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.order("stop", None).await
    }

    /// Lets the CPUs run.
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.order("cont", None).await
    }

    /// Whether somebody in the guest has opened the port of this character device.
    pub async fn is_open_in_guest(&self, chardev: &str) -> Result<bool, QmpError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Chardev {
            label: String,
            frontend_open: bool,
        }
        let command = "query-chardev";
        let answer = self.execute(command, None).await?;
        let all = Vec::<Chardev>::deserialize(&answer).map_err(|_| unexpected(command, &answer))?;
        Ok(all.iter().any(|device| device.label == chardev && device.frontend_open))
    }

    /// Presses the power button: the guest is asked to shut down, which it may or may not do.
    pub async fn system_powerdown(&self) -> Result<(), QmpError> {
        self.order("system_powerdown", None).await
    }

    /// Presses the reset button.
    pub async fn system_reset(&self) -> Result<(), QmpError> {
        self.order("system_reset", None).await
    }

    /// Ends QEMU. That it is gone before it answered is what was wanted.
    pub async fn quit(&self) -> Result<(), QmpError> {
        match self.order("quit", None).await {
            Err(QmpError::Closed { .. }) => Ok(()),
            other => other,
        }
    }

    /// What the machine does.
    pub async fn query_status(&self) -> Result<Status, QmpError> {
        let command = "query-status";
        let answer = self.execute(command, None).await?;
        Status::deserialize(&answer).map_err(|_| unexpected(command, &answer))
    }

    /// The version of QEMU; [`Qmp::version`] knows it from the greeting.
    pub async fn query_version(&self) -> Result<QemuVersion, QmpError> {
        let command = "query-version";
        let answer = self.execute(command, None).await?;
        QemuVersion::parse(&answer).ok_or_else(|| unexpected(command, &answer))
    }

    /// Writes a picture of the first screen to the file `path`, which QEMU opens, as PNG.
    pub async fn screendump(&self, path: &Utf8Path) -> Result<(), QmpError> {
        self.order("screendump", Some(json!({ "filename": path, "format": "png" }))).await
    }

    /// Prepares for leaving or taking in a machine whose memory is shared by a file: only the state of
    /// its devices goes over, and each step is told as an event.
    pub async fn share_memory(&self) -> Result<(), QmpError> {
        let capabilities = ["x-ignore-shared", "events"];
        let capabilities = capabilities.map(|name| json!({ "capability": name, "state": true }));
        self.order("migrate-set-capabilities", Some(json!({ "capabilities": capabilities }))).await?;
        // The usual limit of 128 MiB a second is for networks. What is not shared, such as the
        // memory of a display, goes over too. And nobody has to be told where a guest went: its port
        // of the bridge is as new as the bridge, or the one it had.
        let parameters = json!({ "max-bandwidth": 1_u64 << 40, "announce-rounds": 0 });
        self.order("migrate-set-parameters", Some(parameters)).await
    }

    /// Begins to write the state of the devices of a paused machine into this pipe. Its
    /// end is told by an event.
    pub async fn save_state(&self, pipe: OwnedFd) -> Result<(), QmpError> {
        const NAME: &str = "state";
        self.execute_with("getfd", Some(json!({ "fdname": NAME })), Some(pipe)).await?;
        self.order("migrate", Some(json!({ "uri": format!("fd:{NAME}") }))).await
    }

    /// Begins to take in such a state, from a pipe that QEMU was started with under this number.
    /// Its end is told by an event.
    pub async fn load_state(&self, number: u32) -> Result<(), QmpError> {
        self.order("migrate-incoming", Some(json!({ "uri": format!("fd:{number}") }))).await
    }

    /// What QEMU says of a state that could not be written or taken in.
    pub async fn migration_error(&self) -> Option<String> {
        let answer = self.execute("query-migrate", None).await.ok()?;
        Some(answer.get("error-desc")?.as_str()?.to_owned())
    }

    async fn order(&self, command: &str, arguments: Option<Value>) -> Result<(), QmpError> {
        self.execute(command, arguments).await.map(drop)
    }
}

fn unexpected(command: &str, answer: &Value) -> QmpError {
    QmpError::Answer { command: command.to_owned(), shown: beginning(&answer.to_string()) }
}
