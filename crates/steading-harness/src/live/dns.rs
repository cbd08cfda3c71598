//! The names of a group, from outside.

use std::io::Write as _;
use std::net::IpAddr;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use steading_api::RecordRemoval;
use steading_plan::{Record, RecordData};
use steading_report::output::Stdout;

use crate::exit_code;
use crate::groups::LiveGroup;

/// What is to be done about names.
#[derive(Subcommand, Clone, Debug)]
pub enum DnsCommand {
    /// Print every name, and what it leads to; and where resolvers were claimed.
    Ls,
    /// Add a name.
    Add {
        /// The name. One of one label is of the group's domain, for which a last label @ stands; the first
        /// label may be *.
        name: String,
        /// What it leads to.
        #[command(flatten)]
        target: Target,
    },
    /// Remove a name that was added.
    Rm {
        /// The name.
        name: String,
        /// Only the record that leads to this [default: all].
        #[command(flatten)]
        target: Target,
    },
    /// Answer at the address of a resolver that guests have built in, such as 2001:4860:4860::8888.
    Claim {
        /// The address.
        address: IpAddr,
    },
}

/// What a name leads to.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub struct Target {
    /// An address, or a VM.
    #[arg(value_name = "ADDRESS|VM")]
    host: Option<String>,
    /// Another name.
    #[arg(long, value_name = "NAME")]
    cname: Option<String>,
    /// A text.
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
                format!(
                    "it is not said what {name} leads to\nhint: an address, a VM, --cname NAME or --txt TEXT"
                )
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
