//! Of two rules that contradict each other the first prevails, wherever one stands: seen from the
//! management address, from another VM, and from a prefix that the test has chosen.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::Ipv6Addr;

use anyhow::{Context as _, ensure};
use steading::{Group, Source, Vm};

use crate::{PORT, connection, set_rules};

/// Outside of all that the driver has by itself.
const FURTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 1, 0, 0, 0, 1);

/// From where the guest is seen, and may be denied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Management,
    Vm,
    Further,
}

const PLACES: [Place; 3] = [Place::Management, Place::Vm, Place::Further];

/// In which order the rules stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    DenyAllow,
    AllowDeny,
    /// As firewalls have it that trust their own net.
    OwnNetDenyAllow,
}

const ORDERS: [Order; 3] = [Order::DenyAllow, Order::AllowDeny, Order::OwnNetDenyAllow];

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Vm => "other VM",
            Self::Further => "further",
        }
    }
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::DenyAllow => "deny, allow",
            Self::AllowDeny => "allow, deny",
            Self::OwnNetDenyAllow => "own net, deny, allow",
        }
    }

    /// What must come of it: whether a connection from one place is accepted when another is denied.
    fn accepts(self, denied: Place, from: Place) -> bool {
        match self {
            Self::DenyAllow => from != denied,
            Self::AllowDeny => true,
            Self::OwnNetDenyAllow => from != denied || from == Place::Vm,
        }
    }
}

pub(crate) fn test(testnet: &Group) -> anyhow::Result<()> {
    let (fw, other) = (testnet.vm("fw"), testnet.vm("other"));
    let mut table =
        format!("{:<22} {:<12} {:<12} {:<9} {:<9}\n", "rules", "denied", "from", "expected", "got");
    let mut wrong = 0;
    for order in ORDERS {
        for denied in PLACES {
            set_rules(&fw, &rules(testnet, &other, order, denied))?;
            for from in PLACES {
                let (expected, got) = (order.accepts(denied, from), is_accepted(testnet, &fw, &other, from)?);
                let mark = if expected == got { "" } else { "  <-- wrong" };
                wrong += usize::from(expected != got);
                writeln!(
                    table,
                    "{:<22} {:<12} {:<12} {:<9} {:<9}{mark}",
                    order.name(),
                    denied.name(),
                    from.name(),
                    word(expected),
                    word(got)
                )?;
            }
        }
    }
    print!("{table}");
    set_rules(&fw, "")?;
    ensure!(wrong == 0, "{wrong} are wrong:\n{table}");
    Ok(())
}

const fn word(accepted: bool) -> &'static str {
    if accepted { "accepted" } else { "refused" }
}

fn rules(testnet: &Group, other: &Vm, order: Order, denied: Place) -> String {
    let source = match denied {
        Place::Management => format!("{}/64", testnet.plan().addresses.management),
        Place::Vm => format!("{}/128", other.address()),
        Place::Further => format!("{FURTHER}/64"),
    };
    let deny = format!("ip6 saddr {source} tcp dport {PORT} reject with tcp reset\n");
    let allow = format!("tcp dport {PORT} accept\n");
    let own = format!("ip6 saddr {} accept\n", testnet.plan().addresses.prefix);
    let chain = match order {
        Order::DenyAllow => deny + &allow,
        Order::AllowDeny => allow + &deny,
        Order::OwnNetDenyAllow => own + &deny + &allow,
    };
    format!(
        "table inet firewall {{\nchain input {{\ntype filter hook input priority 0; policy accept;\n{chain}}}\n}}\n"
    )
}

fn is_accepted(testnet: &Group, fw: &Vm, other: &Vm, from: Place) -> anyhow::Result<bool> {
    let source = match from {
        Place::Management => Source::Management,
        Place::Further => Source::Address(FURTHER),
        Place::Vm => {
            // The greeting of the guest's program.
            let line = format!("timeout 20 bash -c 'head -c 1 </dev/tcp/{}/{PORT}'", fw.address());
            let said = other.execute_by_agent(&line)?;
            let refused = said.stderr.contains("Connection refused");
            ensure!(refused || said.stdout == "+", "the other VM is neither accepted nor refused: {said:?}");
            return Ok(!refused);
        }
    };
    match connection::open(testnet.source_address(source)?, (fw.address(), PORT)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("from {}: neither accepted nor refused", from.name()))
        }
    }
}
