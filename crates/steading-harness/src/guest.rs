//! Verbs for guests that run what a test hands them, as the universal guest does.

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use steading_plan::FileSource;

use crate::vm::{Vm, quoted};

/// The unit that runs `activate`, in Steading's own guests.
const ACTIVATION: &str = "steading-config.service";

/// How `activate` does: 0 when it has ended well, 8 when it is not to run, 9 with its words when it has
/// failed.
const ACTIVATION_STATE: &str = "\
    case $(systemctl is-active steading-config.service) in \
    active) exit 0 ;; \
    failed) journalctl -b -q -o cat -u steading-config.service -n 40; exit 9 ;; \
    inactive) [ -e /dev/disk/by-label/CONFIG ] || exit 8 ;; \
    esac; echo 'it has not ended yet'; exit 1";

/// Waits for cloud-init's end: 9 with its words when it has failed. What can be recovered from is no
/// failure to it (status 2).
const CLOUD_INIT_STATE: &str = "\
    command -v cloud-init >/dev/null || exit 8; \
    said=$(cloud-init status --wait --long 2>&1); status=$?; \
    case $said in *'status: disabled'*) exit 7 ;; *'status: done'*) exit 0 ;; esac; \
    printf '%s\\n' \"$said\"; [ $status -eq 1 ] || exit 1; \
    tail -n 40 /var/log/cloud-init-output.log; exit 9";

impl Vm {
    /// Waits until the executable `activate` of the disk labelled `CONFIG` has finished, in a guest built by
    /// Steading. If it fails, the error has its output.
    pub fn wait_until_activated(&self) -> anyhow::Result<()> {
        self.repeat_until(ACTIVATION_STATE, "waiting for `activate`", |output| match output.status {
            0 => Ok(Some(())),
            8 => {
                bail!("it has no disk labelled CONFIG\nhint: set `config_dir` in the configuration of the VM")
            }
            9 => bail!("`activate` failed; journal of {ACTIVATION}:\n{}", output.stdout.trim_end()),
            _ => Ok(None),
        })
    }

    /// Waits until cloud-init has finished. If it fails, the error has its output.
    pub fn wait_for_cloud_init(&self) -> anyhow::Result<()> {
        self.repeat_until(CLOUD_INIT_STATE, "waiting for cloud-init", |output| match output.status {
            0 => Ok(Some(())),
            7 => bail!(
                "cloud-init is disabled, since it found no disk labelled CIDATA\nhint: set `cloud_init` in the configuration of the VM"
            ),
            8 => bail!("this guest has no cloud-init"),
            9 => bail!("cloud-init failed; its output:\n{}", output.stdout.trim_end()),
            _ => Ok(None),
        })
    }

    /// Loads a container image from a tarball on this machine (`podman save`, `docker save`, or an OCI
    /// archive) into the guest's podman, and returns the image's name. The guest downloads it from the
    /// group's file server, so it may be large.
    pub fn load_container(&self, tarball: impl AsRef<Utf8Path>) -> anyhow::Result<String> {
        let tarball = tarball.as_ref();
        let what = || format!("VM {}: loading the container image {tarball}", self.name());
        let path = std::path::absolute(tarball).with_context(what)?;
        let path = camino::Utf8PathBuf::try_from(path).with_context(what)?;
        let name = format!("container-for-{}.tar", self.name());
        let file = self.add_file(&FileSource::new(path).name(&name)).with_context(what)?;
        let url = quoted(file.url());
        let loaded = self.execute(&format!("set -o pipefail; curl -sSf -- {url} | podman load -q"));
        self.remove_file(&name)?;
        let loaded = loaded?;
        if loaded.status != 0 {
            bail!(
                "{}: podman failed: {}\nhint: check that it is an archive of a container image, as written by `podman save`",
                what(),
                loaded.stderr.trim_end()
            );
        }
        let mut images = loaded.stdout.lines().filter_map(|line| line.strip_prefix("Loaded image: "));
        images.next_back().map(str::to_owned).with_context(|| format!("{}: podman named no image", what()))
    }
}
