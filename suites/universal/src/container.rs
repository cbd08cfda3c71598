//! A container image of one program, as `docker save` writes it: nothing can be pulled here.

use anyhow::{Context as _, ensure};
use serde_json::json;
use steading::Sha256;

/// Debian's package `busybox-static`.
const BUSYBOX: &str = "/usr/bin/busybox";

/// What the container serves.
pub(crate) const PAGE: &str = "served by a container";

/// The image's name.
pub(crate) const NAME: &str = "localhost/web:1";

/// An archive with a web server at port 8000, of which nothing but the program and a page is there.
pub(crate) fn archive() -> anyhow::Result<Vec<u8>> {
    let busybox = fs_err::read(BUSYBOX).context(
        "the container needs busybox\nhint: apt-get install --no-install-recommends busybox-static",
    )?;
    ensure!(busybox.starts_with(b"\x7fELF"), "{BUSYBOX} is no program");
    let layer = tar_of(&[("bin/busybox", 0o755, &busybox), ("www/index.html", 0o644, PAGE.as_bytes())])?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/www"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(&layer))] },
    })
    .to_string();
    let config_name = format!("{}.json", Sha256::of(config.as_bytes()));
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [NAME], "Layers": ["layer.tar"] }]).to_string();
    tar_of(&[
        (config_name.as_str(), 0o644, config.as_bytes()),
        ("layer.tar", 0o644, &layer),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}

fn tar_of(files: &[(&str, u32, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, name, *content)?;
    }
    Ok(archive.into_inner()?)
}
