//! The file server of a group, from outside.

use std::io::Write as _;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::Subcommand;
use steading_api::FileFaultRequest;
use steading_plan::{FileEffect, FileFault, FileSource, Sha256};
use steading_report::output::{Stderr, Stdout};

use crate::exit_code;
use crate::groups::LiveGroup;

/// Commands for the file server.
#[derive(Subcommand, Clone, Debug)]
pub enum FilesCommand {
    /// List served files (digest, size, name) and active faults of the server.
    Ls,
    /// Serve another file, and print its URL.
    Add {
        /// File.
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: Utf8PathBuf,
        /// Name to serve it under [default: the name of the file].
        #[arg(long)]
        name: Option<String>,
        /// Fail unless its SHA-256 is this.
        #[arg(long)]
        sha256: Option<Sha256>,
    },
    /// Stop serving a file.
    Rm {
        /// Name or digest of the file.
        file: String,
    },
    /// Print the URL of a file for VMs, by its digest.
    Url {
        /// Name or digest of the file.
        file: String,
        /// Print the URL by its name instead.
        #[arg(long)]
        named: bool,
    },
    /// Refuse connections; for one file, reset the connections that request it.
    Refuse {
        /// Name or digest of the file [default: the whole server].
        file: Option<String>,
    },
    /// Answer with an error.
    Fail {
        /// Status, such as 404 or 503.
        status: u16,
        /// Name or digest of the file [default: all files].
        file: Option<String>,
    },
    /// Cut each response off.
    Cut {
        /// Number of bytes of the body to send before.
        bytes: u64,
        /// Name or digest of the file [default: all files].
        file: Option<String>,
    },
    /// Send responses slowly.
    Slow {
        /// Bytes per second.
        bytes_per_second: u64,
        /// Name or digest of the file [default: all files].
        file: Option<String>,
    },
    /// Send wrong bytes, in the right number.
    Corrupt {
        /// Name or digest of the file [default: all files].
        file: Option<String>,
    },
    /// Undo faults of the server.
    Undo {
        /// Number of the fault.
        #[arg(required_unless_present = "all")]
        id: Option<u32>,
        /// Undo all faults of the server.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

pub(crate) async fn run(group: &LiveGroup, command: &FilesCommand) -> anyhow::Result<u8> {
    let mut out = Stdout;
    let (effect, file) = match command {
        FilesCommand::Ls => {
            for file in group.client.files().await? {
                let trouble = if file.trouble.is_some() { " (cannot be downloaded)" } else { "" };
                writeln!(out, "{} {:>12} {}{trouble}", file.sha256, file.size, file.name)?;
                if let Some(trouble) = file.trouble {
                    writeln!(Stderr, "warning: {trouble}")?;
                }
            }
            for active in group.client.file_faults().await? {
                let by = active.function.map(|name| format!(" (by {name})")).unwrap_or_default();
                writeln!(out, "fault {:<4} {}{by}", active.id, active.fault)?;
            }
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Add { file, name, sha256 } => {
            // The owner has another directory.
            let path = std::path::absolute(file).with_context(|| format!("cannot serve {file}"))?;
            let path = Utf8PathBuf::try_from(path).with_context(|| format!("cannot serve {file}"))?;
            let source = FileSource { path, name: name.clone(), sha256: *sha256 };
            let added = group.client.add_file(&source).await?;
            writeln!(out, "{}", added.url)?;
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Rm { file } => {
            group.client.remove_file(file).await?;
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Url { file, named } => {
            let file = group.client.file(file).await?;
            writeln!(out, "{}", if *named { file.named_url } else { file.url })?;
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Undo { id: Some(id), .. } => {
            group.client.undo_fault(*id).await?;
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Undo { id: None, .. } => {
            group.client.undo_file_faults().await?;
            return Ok(exit_code::PASSED);
        }
        FilesCommand::Refuse { file } => (FileEffect::Refuse, file),
        FilesCommand::Fail { status, file } => (FileEffect::Status { code: *status }, file),
        FilesCommand::Cut { bytes, file } => (FileEffect::Cut { after: *bytes }, file),
        FilesCommand::Slow { bytes_per_second, file } => {
            (FileEffect::Slow { bytes_per_second: *bytes_per_second }, file)
        }
        FilesCommand::Corrupt { file } => (FileEffect::Corrupt, file),
    };
    let fault = FileFault { file: file.clone(), effect };
    let begun = group.client.begin_file_fault(&FileFaultRequest { fault, pid: None }).await?;
    writeln!(out, "{}", begun.id)?;
    writeln!(Stderr, "fault {}: {}", begun.id, begun.fault)?;
    Ok(exit_code::PASSED)
}
