//! The names and certificates of a testnet, for tests.

use std::net::IpAddr;

use steading_api::{AuthorityStatus, Certificate, CertificateRequest, NamesStatus, RecordRemoval};
use steading_plan::Record;

use crate::group::Group;
use crate::vm::Vm;

/// Has a guest trust a certificate, by the tool of its distribution. The name of the file is behind it.
const TRUST: &str = "PATH=$PATH:/usr/sbin:/sbin
if command -v update-ca-certificates >/dev/null; then
    dir=/usr/local/share/ca-certificates update=update-ca-certificates
elif command -v update-ca-trust >/dev/null; then
    dir=/etc/pki/ca-trust/source/anchors update=update-ca-trust
else
    echo 'the guest has neither update-ca-certificates nor update-ca-trust' >&2; exit 1
fi
mkdir -p $dir && cat >$dir/";

impl Group {
    /// Adds a DNS record, until the group ends or the record is removed. All later queries see it.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// use steading_plan::Record;
    ///
    /// testnet.add_record(Record::vm("registry.example.com", "n1"))?;
    /// testnet.add_record(Record::vm("*.apps.@", "n2"))?;
    /// testnet.vm("n2").succeed("curl -sSf http://registry.example.com/")?;
    /// testnet.remove_record("registry.example.com")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the name is invalid, belongs to a VM, or is already there.
    #[expect(clippy::needless_pass_by_value, reason = "a record is made for the call")]
    pub fn add_record(&self, record: Record) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.add_record(&record))?)
    }

    /// Removes all records of a name, and returns them.
    ///
    /// # Errors
    ///
    /// When no record of this name was added.
    pub fn remove_record(&self, name: impl Into<String>) -> anyhow::Result<Vec<Record>> {
        let removal = RecordRemoval { name: name.into(), data: None };
        Ok(self.session.runtime.block_on(self.session.client.remove_records(&removal))?)
    }

    /// Returns all names and their records.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn names(&self) -> anyhow::Result<NamesStatus> {
        Ok(self.session.runtime.block_on(self.session.client.names())?)
    }

    /// Makes the group's DNS also answer at this address, such as that of a resolver that guests have built in.
    ///
    /// # Errors
    ///
    /// When it is an address of the VMs' network, or not a host's address.
    pub fn claim_resolver(&self, address: impl Into<IpAddr>) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.claim_resolver(address.into()))?)
    }

    /// Issues a certificate with a new key, for names and addresses in the group. For a name of one label it also
    /// has the full name.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let certificate = testnet.certificate(&["n1", "*.apps.@"])?;
    /// let n1 = testnet.vm("n1");
    /// n1.succeed(&format!("cat >/etc/ssl/n1.pem <<'END'\n{}{}END", certificate.key, certificate.chain))?;
    /// n1.succeed("systemctl restart the-server")?;
    /// // The guest with the client must trust the authority; the test's own client already does.
    /// testnet.vm("n2").trust_authority()?;
    /// testnet.vm("n2").succeed("curl -sSf https://n1/")?;
    /// testnet.http()?.get("https://n1/")?.succeed()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When a name or address is not in the group.
    pub fn certificate<N: AsRef<str>>(&self, names: &[N]) -> anyhow::Result<Certificate> {
        let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let request = CertificateRequest { names };
        Ok(self.session.runtime.block_on(self.session.client.certificate(&request))?)
    }

    /// Returns the group's certificate authority: its certificate, and the directory URL for ACME clients.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn authority(&self) -> anyhow::Result<AuthorityStatus> {
        Ok(self.session.runtime.block_on(self.session.client.authority())?)
    }
}

impl Vm {
    /// Makes the guest trust the group's certificate authority, with `update-ca-certificates` (Debian and
    /// others) or `update-ca-trust` (Fedora and others).
    ///
    /// # Errors
    ///
    /// When the guest has neither program.
    pub fn trust_authority(&self) -> anyhow::Result<()> {
        let authority = self.session.runtime.block_on(self.session.client.authority())?;
        let line = format!("{TRUST}steading-{}.crt && $update", self.session.status.plan.group);
        self.copy("trusting the group's authority", &line, authority.certificate.as_bytes()).map(drop)
    }
}
