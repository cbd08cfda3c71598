//! The names of a group and certificates for them, as a program inside uses them.

use std::net::IpAddr;

use steading_api::{CertificateRequest, RecordRemoval};
use steading_plan::{Record, Testnet};

use crate::Case;
use crate::support::{Group, Outcome, stopped_vm};

pub(crate) const CASES: &[Case] = &[
    ("names_are_answered_for_at_the_gateway_and_at_claimed_resolvers", answers),
    ("records_come_and_go_and_what_is_wrong_with_one_is_told", records),
    ("a_certificate_is_issued_for_names_of_the_group_only", certificates),
    ("acme_is_served_over_https_of_the_groups_own_authority", acme),
];

fn group() -> Group {
    Group::up("names", |dirs| {
        Testnet::new()
            .vm(stopped_vm(dirs))
            .record(Record::vm("*.apps.@", "still"))
            .resolver(IpAddr::from([8, 8, 8, 8]))
    })
}

/// What a server at this address says of a name: what a C library makes of it, in a mount namespace
/// with a resolver of its own. The status of getent(1), and what it prints.
fn ask(group: &Group, server: &str, name: &str) -> (Option<i32>, String) {
    let resolv_conf = group.path("resolv.conf");
    // Nobody that answers takes so long.
    fs_err::write(&resolv_conf, format!("nameserver {server}\noptions timeout:30 attempts:1\n"))
        .expect("write");
    let script = format!(
        "mount --bind {resolv_conf} $(readlink -f /etc/resolv.conf) && exec timeout 20 getent ahosts {name}"
    );
    let ran = group.run(&["unshare", "-rm", "sh", "-c", &script]);
    (ran.status, ran.lines.join("\n"))
}

fn answers() -> Outcome {
    let group = group();
    let addresses = &group.plan.addresses;
    let vm = group.plan.vms[0].address.to_string();
    let resolver = "2001:4860:4860::8888";
    let claimed = group.client.claim_resolver(resolver.parse().expect("an address"));
    group.wait_for(claimed).expect("it is claimed");
    for server in [&addresses.gateway.to_string(), &addresses.ipv4_gateway.to_string(), "8.8.8.8", resolver] {
        for name in [
            "still".to_owned(),
            format!("still.{}", addresses.domain),
            format!("a.b.apps.{}", addresses.domain),
        ] {
            let (status, said) = ask(&group, server, &name);
            assert!(status == Some(0) && said.contains(&vm), "{server} says of {name}: {status:?} {said}");
        }
        // 2: there is no such name. Who gets no answer is killed, which is 124.
        for name in ["nobody", "www.debian.org"] {
            let (status, said) = ask(&group, server, name);
            assert_eq!(status, Some(2), "{server} says of {name}: {said}");
        }
    }
    let inside = group.client.claim_resolver(group.plan.vms[0].address.into());
    let refused = group.wait_for(inside).expect_err("it is a VM's").to_string();
    assert!(refused.contains("among the VMs' own"), "{refused}");
    let names = group.wait_for(group.client.names()).expect("names");
    assert_eq!(names.resolvers.len(), 2);
    group.tear_down();
    Outcome::Passed
}

fn records() -> Outcome {
    let group = group();
    let gateway = group.plan.addresses.gateway.to_string();
    let name = "registry.example.com";
    let add = |record: Record| group.wait_for(group.client.add_record(&record));
    add(Record::address(name, [10, 1, 2, 3])).expect("it is added");
    assert!(ask(&group, &gateway, name).1.contains("10.1.2.3"));
    for (record, said) in [
        (Record::address(name, [10, 1, 2, 3]), "is there already"),
        (Record::vm("still", "still"), "is the name of VM still"),
        (Record::vm("x", "nobody"), "VM \"nobody\", which is not there"),
        (Record::txt("a b", "x"), "is no DNS name"),
    ] {
        let refused = add(record).expect_err("it is refused").to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let removal = RecordRemoval { name: name.to_owned(), data: None };
    let removed = group.wait_for(group.client.remove_records(&removal)).expect("it is removed");
    assert_eq!(removed, [Record::address(name, [10, 1, 2, 3])]);
    assert_eq!(ask(&group, &gateway, name).0, Some(2));
    let refused = group.wait_for(group.client.remove_records(&removal)).expect_err("it is gone").to_string();
    assert!(
        refused.contains("there is no such record") && refused.contains("*.apps.@ vm still"),
        "{refused}"
    );
    group.tear_down();
    Outcome::Passed
}

fn certificates() -> Outcome {
    let group = group();
    let issue = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        group.wait_for(group.client.certificate(&CertificateRequest { names }))
    };
    let address = group.plan.vms[0].address.to_string();
    let certificate = issue(&["still", "*.apps.@", &address]).expect("a certificate");
    let domain = &group.plan.addresses.domain;
    let names = ["still".to_owned(), format!("still.{domain}"), format!("*.apps.{domain}"), address];
    assert_eq!(certificate.names, names);
    let write = |name: &str, text: &str| {
        fs_err::write(group.path(name), text).expect("write");
        group.path(name).into_string()
    };
    let (ca, pem) = (write("ca.pem", &certificate.authority), write("cert.pem", &certificate.chain));
    let key = write("key.pem", &certificate.key);
    for purpose in ["sslserver", "sslclient"] {
        let ran =
            group.run(&["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &pem]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    for name in ["still", &format!("shop.apps.{domain}")] {
        let ran = group.run(&["openssl", "verify", "-CAfile", &ca, "-verify_hostname", name, &pem]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    let ran = group.run(&["openssl", "verify", "-CAfile", &ca, "-verify_hostname", "nobody", &pem]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    let public = |words: &[&str]| group.run(&[&["openssl"], words].concat()).lines;
    assert_eq!(
        public(&["x509", "-in", &pem, "-noout", "-pubkey"]),
        public(&["pkey", "-in", &key, "-pubout"])
    );
    // The same file as programs of the group are told of.
    let told = group.wait_for(group.client.authority()).expect("an authority").certificate;
    assert_eq!(told, certificate.authority);
    for name in ["www.debian.org", "9.9.9.9", "*.example.com", "a b"] {
        let refused = issue(&["still", name]).expect_err("it is a stranger's").to_string();
        assert!(refused.contains(name), "{refused}");
    }
    assert!(issue(&[]).expect_err("it is for nobody").to_string().contains("hint:"));
    group.tear_down();
    Outcome::Passed
}

fn acme() -> Outcome {
    let group = group();
    let authority = group.wait_for(group.client.authority()).expect("an authority");
    let domain = &group.plan.addresses.domain;
    assert_eq!(authority.acme_url, format!("https://acme.{domain}/directory"));
    fs_err::write(group.path("ca.pem"), &authority.certificate).expect("write");
    let ca = group.path("ca.pem").into_string();
    for server in
        [format!("[{}]", group.plan.addresses.gateway), group.plan.addresses.ipv4_gateway.to_string()]
    {
        let connect = format!("acme.{domain}:443:{server}:443");
        let curl = |words: &[&str]| {
            let common = ["curl", "-sS", "--max-time", "20", "--cacert", &ca, "--connect-to", &connect];
            group.run(&[&common, words].concat())
        };
        let directory = curl(&["-f", &authority.acme_url]);
        assert!(directory.lines.concat().contains("\"newOrder\":"), "{directory:?}");
        let head = curl(&["-f", "-I", &format!("https://acme.{domain}/acme/new-nonce")]);
        assert!(head.lines.iter().any(|line| line.starts_with("replay-nonce: ")), "{head:?}");
        let new_account = format!("https://acme.{domain}/acme/new-account");
        let unsigned = curl(&["-d", "{}", "-H", "content-type: application/jose+json", &new_account]);
        assert!(unsigned.lines.concat().contains("urn:ietf:params:acme:error:malformed"), "{unsigned:?}");
        let untyped = curl(&["-d", "{}", "-o", "/dev/null", "-w", "%{http_code}", &new_account]);
        assert_eq!(untyped.lines, ["415"]);
        // By its address, too.
        let ran = group.run(&[
            "curl",
            "-sSf",
            "--max-time",
            "20",
            "--cacert",
            &ca,
            &format!("https://{server}/directory"),
        ]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    group.tear_down();
    Outcome::Passed
}
