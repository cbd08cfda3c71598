//! The command `cert`.

use std::io::Write as _;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use steading_api::CertificateRequest;
use steading_report::output::{Stderr, Stdout};

use crate::exit_code;
use crate::groups::LiveGroup;

/// Arguments of `cert`.
#[derive(Args, Clone, Debug)]
pub struct CertArgs {
    /// Names and addresses in the group.
    #[arg(required_unless_present_any = ["authority", "acme"])]
    names: Vec<String>,
    /// Write cert.pem, key.pem and ca.pem into this directory instead.
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    /// Print the certificate of the group's authority, for clients that must trust it.
    #[arg(long, conflicts_with_all = ["names", "out"])]
    authority: bool,
    /// Print the directory URL for ACME clients.
    #[arg(long, conflicts_with_all = ["names", "out", "authority"])]
    acme: bool,
}

pub(crate) async fn run(group: &LiveGroup, args: &CertArgs) -> anyhow::Result<u8> {
    let mut out = Stdout;
    if args.authority {
        write!(out, "{}", group.client.authority().await?.certificate)?;
        return Ok(exit_code::PASSED);
    }
    if args.acme {
        writeln!(out, "{}", group.client.authority().await?.acme_url)?;
        return Ok(exit_code::PASSED);
    }
    let certificate = group.client.certificate(&CertificateRequest { names: args.names.clone() }).await?;
    match &args.out {
        None => write!(out, "{}{}", certificate.chain, certificate.key)?,
        Some(dir) => {
            fs::create_dir_all(dir).context("cannot make the directory for the certificate")?;
            fs::write(dir.join("cert.pem"), &certificate.chain).context("cannot write the certificate")?;
            fs::write(dir.join("ca.pem"), &certificate.authority)
                .context("cannot write the certificate of the authority")?;
            write_key(&dir.join("key.pem"), &certificate.key).context("cannot write the private key")?;
        }
    }
    writeln!(Stderr, "for {}", certificate.names.join(", "))?;
    Ok(exit_code::PASSED)
}

/// Nobody else is to read it, not even for a moment.
fn write_key(path: &Utf8Path, key: &str) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok(options.open(path)?.write_all(key.as_bytes())?)
}
