//! The commands `dns`.

use std::io::Write as _;
use std::net::IpAddr;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use steading_api::RecordRemoval;
use steading_plan::{Record, RecordData};
use steading_report::output::Stdout;

use crate::exit_code;
use crate::groups::LiveGroup;

/// Commands for the names of a group.
#[derive(Subcommand, Clone, Debug)]
pub enum DnsCommand {
    /// List names and their records, and claimed resolver addresses.
    Ls,
    /// Add a name.
    Add {
        /// Name. A name of one label is in the group's domain, which `@` as the last label stands for; the first
        /// label may be *.
        name: String,
        /// Its record.
        #[command(flatten)]
        target: Target,
    },
    /// Remove an added name.
    Rm {
        /// Name.
        name: String,
        /// Remove only the record with this value [default: all].
        #[command(flatten)]
        target: Target,
    },
    /// Answer DNS at an address that guests have built in, such as 2001:4860:4860::8888.
    Claim {
        /// Address.
        address: IpAddr,
    },
}

/// The record of a name.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct Target {
    /// Address, or name of a VM.
    #[arg(value_name = "ADDRESS|VM")]
    host: Option<String>,
    /// Another name (CNAME).
    #[arg(long, value_name = "NAME")]
    cname: Option<String>,
    /// Text (TXT).
    #[arg(long, value_name = "TEXT")]
    txt: Option<String>,
}

impl Target {
    fn data(&self) -> Option<RecordData> {
        let host = self.host.as_ref().map(|host| match host.parse() {
            Ok(address) => RecordData::Address(address),
            Err(_) => RecordData::Vm(host.clone()),
        });
        host.or_else(|| self.cname.clone().map(RecordData::Cname))
            .or_else(|| self.txt.clone().map(RecordData::Txt))
    }
}

pub(crate) async fn run(group: &LiveGroup, command: &DnsCommand) -> anyhow::Result<u8> {
    let mut out = Stdout;
    match command {
        DnsCommand::Ls => {
            let status = group.client.names().await?;
            for name in &status.names {
                for data in &name.data {
                    writeln!(out, "{} {data}", name.name)?;
                }
            }
            for resolver in status.resolvers {
                writeln!(out, "resolver {resolver}")?;
            }
        }
        DnsCommand::Add { name, target } => {
            let data = target.data().with_context(|| {
                format!("no record given for {name}\nhint: give an address, a VM, --cname NAME or --txt TEXT")
            })?;
            group.client.add_record(&Record { name: name.clone(), data }).await?;
        }
        DnsCommand::Rm { name, target } => {
            let removal = RecordRemoval { name: name.clone(), data: target.data() };
            for record in group.client.remove_records(&removal).await? {
                writeln!(out, "{record}")?;
            }
        }
        DnsCommand::Claim { address } => group.client.claim_resolver(*address).await?,
    }
    Ok(exit_code::PASSED)
}
