//! What a node fetches from a host outside of its cluster: over IPv4, by name, over HTTPS; and what becomes of
//! it when the node's own firewall forbids it.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use steading::{CommandOutput, Group, Record, Suite, Testnet, Vm, at_once, reference, universal};

/// The host that is called, as the node knows it.
const API: &str = "api.example.com";

/// It tells who calls.
const SERVER: &str = r#"
import http.server, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("0.0.0.0", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// What curl's exit status says (curl(1)).
const CANNOT_CONNECT: i32 = 7;
const TIMED_OUT: i32 = 28;

/// A whole Debian has much to do, and takes minutes on a busy machine that emulates it.
const BOOT: Duration = Duration::from_secs(9 * 60);

fn main() -> ExitCode {
    Suite::new("outcalls")
        .testnet(|| {
            Ok(Testnet::new()
                .vm(reference::guest()?.vm("node").second_card())
                .vm(universal::guest()?.vm("api").second_card()))
        })
        .setup(|testnet| {
            at_once(&testnet.vms(), |vm| vm.within(BOOT).wait_for_ssh())?;
            let (node, api) = (testnet.vm("node"), testnet.vm("api"));
            testnet.add_record(Record::address(API, ipv4(&api)?))?;
            serve(&api, testnet)?;
            node.wait_until_succeeds("ip -4 -o addr show dev enp2s0 | grep inet")?;
            node.trust_authority()
        })
        .test("a_node_fetches_over_ipv4_by_name_and_https", fetches)
        .test("an_egress_rule_that_rejects_forbids_it_and_nothing_else", rejected)
        .test("an_egress_rule_that_drops_leaves_the_node_waiting", dropped)
        .main()
}

fn ipv4(vm: &Vm) -> anyhow::Result<Ipv4Addr> {
    vm.plan().second_address.with_context(|| format!("VM {} has no IPv4 address", vm.name()))
}

fn serve(api: &Vm, testnet: &Group) -> anyhow::Result<()> {
    let certificate = testnet.certificate(&[API])?;
    let pem = format!("{}{}", certificate.key, certificate.chain);
    api.succeed(&format!("cat >/run/api.pem <<'END'\n{pem}END"))?;
    api.succeed(&format!("cat >/run/api.py <<'END'{SERVER}END"))?;
    api.succeed("systemd-run -q -u api python3 /run/api.py")?;
    api.wait_until_succeeds("ss -ltn 'sport = 443' | grep -q LISTEN").map(drop)
}

fn call(node: &Vm) -> anyhow::Result<CommandOutput> {
    node.execute(&format!("curl -sS --max-time 20 https://{API}/"))
}

fn fetches(testnet: &Group) -> anyhow::Result<()> {
    let node = testnet.vm("node");
    let said = call(&node)?;
    ensure!(said.status == 0, "it is not fetched: {said:?}");
    ensure!(said.stdout == ipv4(&node)?.to_string(), "the host was called by {said:?}");
    Ok(())
}

/// Has the node's firewall judge in this way what it sends to the host's port.
fn forbid(node: &Vm, api: &Vm, verdict: &str) -> anyhow::Result<()> {
    let api = ipv4(api)?;
    let rules = format!(
        "table inet egress {{ chain output {{ type filter hook output priority 0; \
         ip daddr {api} tcp dport 443 counter {verdict}; }}; }}"
    );
    node.succeed(&format!("nft '{rules}'")).map(drop)
}

/// Takes the rule away, and says how many packets met it.
fn allow(node: &Vm) -> anyhow::Result<u64> {
    let rules = node.succeed("nft list table inet egress && nft delete table inet egress")?;
    let met = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    met.context("the rule counts nothing")?.parse().context("cannot read what the rule counts")
}

fn rejected(testnet: &Group) -> anyhow::Result<()> {
    let (node, api) = (testnet.vm("node"), testnet.vm("api"));
    forbid(&node, &api, "reject with tcp reset")?;
    let said = call(&node)?;
    ensure!(said.status == CANNOT_CONNECT, "the rule does not forbid it: {said:?}");
    // The host is there for all else.
    node.succeed(&format!("ping -4 -c 1 -W 10 {API}"))?;
    ensure!(allow(&node)? > 0, "it was not the rule that forbade it");
    fetches(testnet)
}

fn dropped(testnet: &Group) -> anyhow::Result<()> {
    let (node, api) = (testnet.vm("node"), testnet.vm("api"));
    forbid(&node, &api, "drop")?;
    let said = node.execute(&format!("curl -sS --connect-timeout 4 https://{API}/"))?;
    ensure!(said.status == TIMED_OUT, "the rule does not forbid it: {said:?}");
    ensure!(allow(&node)? > 0, "it was not the rule that forbade it");
    fetches(testnet)
}
