//! Names of a group and certificates for them: between two VMs, from the driver, and by an ACME client as
//! Debian has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use steading::{
    Certificate, FileSource, ForkFallback, Group, Record, Suite, Testnet, Vm, at_once, reference,
};

/// A public resolver, as products have it built in; the testnet claims it.
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888);

/// Another, which is claimed while the testnet runs.
const IPV4_RESOLVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// A host of somebody else, for which a VM stands.
const REGISTRY: &str = "registry.example.com";

/// An ACME client, on the host.
const LEGO: &str = "/usr/bin/lego";

fn main() -> ExitCode {
    Suite::new("names")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new()
                .vm(guest.vm("n1"))
                .vm(guest.vm("n2").second_card())
                .record(Record::vm(REGISTRY, "n1"))
                .record(Record::vm("*.apps.@", "n1"))
                .resolver(RESOLVER))
        })
        .setup(|testnet| {
            at_once(&testnet.vms(), Vm::wait_for_ssh)?;
            let n1 = testnet.vm("n1");
            let address = n1.address().to_string();
            serve(&n1, &testnet.certificate(&["n1", REGISTRY, "*.apps.@", &address])?)?;
            testnet.vm("n2").trust_authority()
        })
        .test("https_by_name_works_between_vms_and_from_the_driver", https)
        .test("a_guest_that_was_not_told_to_trust_the_group_does_not", no_trust)
        .test("names_and_wildcards_come_and_go", comes_and_goes)
        .test("a_name_that_is_not_there_is_told_so_at_once", nobody)
        .test("resolvers_that_a_guest_has_built_in_are_answered_for", built_in)
        .test("an_acme_client_gets_its_certificate", acme)
        .test("nobody_gets_a_certificate_for_a_stranger", stranger)
        .sequential("forked", |section| {
            section
                .setup(|testnet| testnet.add_record(Record::address("before", Ipv6Addr::LOCALHOST)))
                .fork_each(ForkFallback::Skip)
                .test("a_fork_has_the_names_and_the_authority_of_its_group", forks)
                .test("and_changes_them_for_itself_alone", forks)
        })
        .main()
}

/// Has the VM serve HTTPS.
fn serve(vm: &Vm, certificate: &Certificate) -> anyhow::Result<()> {
    let pem = format!("{}{}", certificate.key, certificate.chain);
    vm.succeed(&format!("cat >/run/server.pem <<'END'\n{pem}END"))?;
    vm.succeed("systemd-run -q -u server openssl s_server -6 -accept 443 -www -cert /run/server.pem -key /run/server.pem")?;
    vm.wait_for_open_port(443)
}

fn https(testnet: &Group) -> anyhow::Result<()> {
    let (n1, n2) = (testnet.vm("n1"), testnet.vm("n2"));
    let domain = &testnet.plan().addresses.domain;
    let hosts = [
        "n1",
        &format!("n1.{domain}"),
        REGISTRY,
        &format!("shop.apps.{domain}"),
        &format!("[{}]", n1.address()),
    ];
    for host in hosts {
        let said = n2.succeed(&format!("curl -sSf https://{host}/"))?;
        ensure!(said.contains("Ciphers"), "{host}: n2 was told: {said}");
        let answer = testnet.http()?.get(format!("https://{host}/"))?.succeed()?;
        ensure!(answer.text().contains("Ciphers"), "{host}: the driver was told: {answer:?}");
    }
    // Right authority, wrong name: n1 has no certificate for it.
    testnet.add_record(Record::vm("other", "n1"))?;
    let said = n2.execute("curl -sS https://other/")?;
    ensure!(said.status == 60, "curl does not tell of a certificate for another: {said:?}");
    let driver = testnet.http()?.get("https://other/").err().context("the driver takes any certificate")?;
    ensure!(format!("{driver:#}").contains("certificate"), "{driver:#}");
    testnet.remove_record("other").map(drop)
}

fn no_trust(testnet: &Group) -> anyhow::Result<()> {
    let n1 = testnet.vm("n1");
    let said = n1.execute("curl -sS https://n1/")?;
    ensure!(said.status == 60, "curl does not tell of an unknown authority: {said:?}");
    let authority = testnet.authority()?.certificate;
    n1.succeed(&format!("cat >/run/ca.pem <<'END'\n{authority}END"))?;
    n1.succeed("curl -sSf --cacert /run/ca.pem https://n1/").map(drop)
}

/// The addresses that a guest finds, one a line.
fn found(vm: &Vm, name: &str) -> anyhow::Result<String> {
    vm.succeed(&format!("getent ahosts {name} | awk '{{print $1}}' | sort -u"))
}

fn comes_and_goes(testnet: &Group) -> anyhow::Result<()> {
    let (n1, n2) = (testnet.vm("n1"), testnet.vm("n2"));
    let domain = &testnet.plan().addresses.domain;
    let name = format!("a.b.late.{domain}");
    n2.fail(&format!("getent hosts {name}"))?;
    testnet.add_record(Record::vm("*.late.@", "n1"))?;
    ensure!(found(&n2, &name)?.trim() == n1.address().to_string(), "{name} leads elsewhere");
    testnet.add_record(Record::cname("www.example.net", "n1"))?;
    ensure!(found(&n2, "www.example.net")?.trim() == n1.address().to_string(), "the alias leads elsewhere");
    let removed = testnet.remove_record("*.late.@")?;
    ensure!(removed == [Record::vm("*.late.@", "n1")], "removed was: {removed:?}");
    n2.fail(&format!("getent hosts {name}"))?;
    testnet.remove_record("www.example.net")?;
    n2.fail("getent hosts www.example.net")?;
    let error = testnet.add_record(Record::vm("n2", "n1")).err().context("n2 is n1")?.to_string();
    ensure!(error.contains("is the name of VM n2"), "{error}");
    Ok(())
}

fn nobody(testnet: &Group) -> anyhow::Result<()> {
    let n2 = testnet.vm("n2");
    let domain = &testnet.plan().addresses.domain;
    for name in ["nobody", &format!("nobody.{domain}"), "www.debian.org"] {
        // Who gets no answer waits for longer than it is let.
        let said =
            n2.execute(&format!("RES_OPTIONS='timeout:60 attempts:1' timeout 50 getent hosts {name}"))?;
        ensure!(said.status == 2, "{name}: getent says: {said:?}");
        let said = n2.execute(&format!("curl -sS http://{name}/"))?;
        ensure!(said.status == 6, "{name}: curl says: {said:?}");
    }
    Ok(())
}

fn built_in(testnet: &Group) -> anyhow::Result<()> {
    let (n1, n2) = (testnet.vm("n1"), testnet.vm("n2"));
    let ask = |resolver: IpAddr| {
        // Whatever the router says, this is all that the program knows.
        n2.execute(&format!(
            "printf 'nameserver {resolver}\noptions timeout:5 attempts:1\n' >/run/resolv.conf && unshare -m sh -c 'mount --bind /run/resolv.conf /etc/resolv.conf && getent hosts {REGISTRY}'"
        ))
    };
    let said = ask(RESOLVER.into())?;
    ensure!(said.stdout.contains(&n1.address().to_string()), "{RESOLVER} says: {said:?}");
    let said = ask(IPV4_RESOLVER.into())?;
    ensure!(said.status != 0, "{IPV4_RESOLVER} answers before it is claimed: {said:?}");
    testnet.claim_resolver(IPV4_RESOLVER)?;
    let said = ask(IPV4_RESOLVER.into())?;
    ensure!(said.stdout.contains(&n1.address().to_string()), "{IPV4_RESOLVER} says: {said:?}");
    let error = testnet.claim_resolver(n1.address()).err().context("a VM's address is claimed")?;
    ensure!(error.to_string().contains("among the VMs' own"), "{error}");
    Ok(())
}

/// Has a guest order a certificate by ACME, with the client of the host; how that ends.
fn lego(testnet: &Group, vm: &Vm, name: &str) -> anyhow::Result<steading::CommandOutput> {
    if !std::path::Path::new(LEGO).exists() {
        return Err(testnet.skip(format!("there is no {LEGO}: it is in Debian's package lego")));
    }
    if testnet.file("lego").is_err() {
        testnet.add_file(FileSource::new(LEGO))?;
    }
    let (url, authority) = (testnet.file("lego")?.named_url().to_owned(), testnet.authority()?);
    vm.succeed(&format!("test -x /run/lego || {{ curl -sSf -o /run/lego {url} && chmod +x /run/lego; }}"))?;
    vm.succeed(&format!("cat >/run/ca.pem <<'END'\n{}END", authority.certificate))?;
    let server = authority.acme_url;
    vm.execute(&format!(
        "LEGO_CA_CERTIFICATES=/run/ca.pem /run/lego --path /run/lego-data --accept-tos --email admin@example.com \
         --server {server} --http --domains {name} run 2>&1"
    ))
}

fn acme(testnet: &Group) -> anyhow::Result<()> {
    let n2 = testnet.vm("n2");
    let name = format!("n2.{}", testnet.plan().addresses.domain);
    let said = lego(testnet, &n2, &name)?;
    ensure!(said.status == 0, "lego says: {said:?}");
    let verified =
        n2.succeed(&format!("openssl verify -CAfile /run/ca.pem /run/lego-data/certificates/{name}.crt"))?;
    ensure!(verified.ends_with("OK\n"), "openssl says: {verified}");
    // It serves with it.
    n2.succeed(&format!(
        "cd /run/lego-data/certificates && systemd-run -q -u acme-server openssl s_server -6 -accept 8443 -www -cert $PWD/{name}.crt -key $PWD/{name}.key"
    ))?;
    n2.wait_for_open_port(8443)?;
    testnet.http()?.get(format!("https://{name}:8443/"))?.succeed()?;
    Ok(())
}

fn stranger(testnet: &Group) -> anyhow::Result<()> {
    for name in ["www.debian.org", "2001:db8::1"] {
        let error = testnet.certificate(&[name]).err().context("a stranger is certified")?.to_string();
        ensure!(error.contains("of the group") && error.contains("hint:"), "{error}");
    }
    let said = lego(testnet, &testnet.vm("n2"), "www.debian.org")?;
    ensure!(said.status != 0, "lego has a certificate for a stranger: {said:?}");
    ensure!(said.stdout.contains("rejectedIdentifier"), "lego says: {said:?}");
    ensure!(said.stdout.contains("is no name of the group"), "lego says: {said:?}");
    // Port 80 of n1 is not lego's, which runs in n2.
    let said = lego(testnet, &testnet.vm("n2"), &format!("n1.{}", testnet.plan().addresses.domain))?;
    ensure!(said.status != 0, "n2 has a certificate for n1: {said:?}");
    ensure!(said.stdout.contains("cannot connect to n1"), "lego says: {said:?}");
    Ok(())
}

fn forks(testnet: &Group) -> anyhow::Result<()> {
    let n2 = testnet.vm("n2");
    n2.succeed(&format!("curl -sSf https://{REGISTRY}/"))?;
    testnet.http()?.get("https://n1/")?.succeed()?;
    // Old certificates are trusted; so are new ones, of the same authority.
    let certificate = testnet.certificate(&["n2"])?;
    n2.succeed(&format!("cat >/run/new.pem <<'END'\n{}END", certificate.chain))?;
    n2.succeed("openssl verify /run/new.pem")?;
    let removed = testnet.remove_record("before")?;
    ensure!(removed.len() == 1, "removed was: {removed:?}");
    Ok(())
}
