//! What a test does about the names of its testnet.

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
    /// Adds a name, for the rest of the group's life or until it is removed. Every question that follows is
    /// answered with it.
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
    /// When it is no name, it is a VM's, or it is there already.
    #[expect(clippy::needless_pass_by_value, reason = "a record is made for the call")]
    pub fn add_record(&self, record: Record) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.add_record(&record))?)
    }

    /// Removes all records of a name, and says which they were.
    ///
    /// # Errors
    ///
    /// When none was added.
    pub fn remove_record(&self, name: impl Into<String>) -> anyhow::Result<Vec<Record>> {
        let removal = RecordRemoval { name: name.into(), data: None };
        Ok(self.session.runtime.block_on(self.session.client.remove_records(&removal))?)
    }

    /// Every name, and what it leads to.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn names(&self) -> anyhow::Result<NamesStatus> {
        Ok(self.session.runtime.block_on(self.session.client.names())?)
    }

    /// Has the group's DNS answer at this address, too: that of a resolver that guests have built in.
    ///
    /// # Errors
    ///
    /// When it is among the VMs' own, or no host can have it.
    pub fn claim_resolver(&self, address: impl Into<IpAddr>) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.claim_resolver(address.into()))?)
    }

    /// A certificate with a new key, for names and addresses of the group. A name of one label is certified
    /// together with the whole one.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let certificate = testnet.certificate(&["n1", "*.apps.@"])?;
    /// let n1 = testnet.vm("n1");
    /// n1.succeed(&format!("cat >/etc/ssl/n1.pem <<'END'\n{}{}END", certificate.key, certificate.chain))?;
    /// n1.succeed("systemctl restart the-server")?;
    /// // The guest with the client is told whom to trust; the test's own client knows.
    /// testnet.vm("n2").trust_authority()?;
    /// testnet.vm("n2").succeed("curl -sSf https://n1/")?;
    /// testnet.http()?.get("https://n1/")?.succeed()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When one is not of the group.
    pub fn certificate<N: AsRef<str>>(&self, names: &[N]) -> anyhow::Result<Certificate> {
        let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let request = CertificateRequest { names };
        Ok(self.session.runtime.block_on(self.session.client.certificate(&request))?)
    }

    /// The group's certificate authority: whom to trust, and where ACME clients begin.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn authority(&self) -> anyhow::Result<AuthorityStatus> {
        Ok(self.session.runtime.block_on(self.session.client.authority())?)
    }
}

impl Vm {
    /// Has the guest trust the group's certificate authority, by `update-ca-certificates` (Debian and
    /// others) or `update-ca-trust` (Fedora and others).
    ///
    /// # Errors
    ///
    /// When it has neither.
    pub fn trust_authority(&self) -> anyhow::Result<()> {
        let authority = self.session.runtime.block_on(self.session.client.authority())?;
        let line = format!("{TRUST}steading-{}.crt && $update", self.session.status.plan.group);
        self.copy("trusting the group's authority", &line, authority.certificate.as_bytes()).map(drop)
    }
}
