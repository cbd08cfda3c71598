//! What can go wrong with links, addresses and routes.

use thiserror::Error;

/// A network that cannot be made.
#[derive(Debug, Error)]
pub enum NetError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refuses a change.
    #[error("cannot {action}{}", hint(source))]
    Refused {
        /// What was tried, on what.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// The kernel refuses rules for the bridge.
    #[error("cannot put {rules} rules for the bridge into place{}", rules_hint(source))]
    Rules {
        /// How many.
        rules: usize,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The launcher has made it, once and for all.
    #[error(
        "the group's network lies in this host's own, where the launcher has made it, and cannot be changed: there are no faults, no claimed resolvers and no addresses of choice\nhint: run where user namespaces are available (--isolation namespaces)"
    )]
    OfLauncher,
    /// An interface that should be there is not.
    #[error("there is no interface {0} in this network namespace")]
    Missing(String),
}

/// The answers whose cause is known, by errno.
fn hint(error: &rtnetlink::Error) -> &'static str {
    const EPERM: i32 = 1;
    const EEXIST: i32 = 17;
    const EOPNOTSUPP: i32 = 95;
    let rtnetlink::Error::NetlinkError(message) = error else { return "" };
    match message.raw_code().abs() {
        EPERM => "\nhint: CAP_NET_ADMIN is missing in this network namespace",
        EEXIST => "\nhint: the namespace is not fresh; this is a mistake in the program",
        EOPNOTSUPP => "\nhint: the kernel lacks bridges or IPv6; as root: modprobe bridge",
        _ => "",
    }
}

/// The same for rules, whose kernel parts may be modules.
fn rules_hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::PermissionDenied, _) => "\nhint: CAP_NET_ADMIN is missing in this network namespace",
        // ENOENT, EPROTONOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT: a part is not there.
        (ErrorKind::NotFound, _) | (_, Some(93 | 95 | 97)) => {
            "\nhint: faults need nftables for bridges, with `numgen` for loss \
             (CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_NUMGEN); as root: modprobe nf_tables nft_numgen"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_a_part_of_nftables_is_told_which_parts_are_needed() {
        // ENOENT: no such type of chain, or no such expression; EOPNOTSUPP: no nftables at all;
        // EPROTONOSUPPORT: no netfilter.
        for code in [2, 93, 95] {
            let error = NetError::Rules { rules: 4, source: std::io::Error::from_raw_os_error(code) };
            let said = error.to_string();
            assert!(said.starts_with("cannot put 4 rules for the bridge into place\nhint: "), "{said}");
            assert!(said.contains("CONFIG_NF_TABLES_BRIDGE"), "{said}");
        }
        let refused = NetError::Rules { rules: 4, source: std::io::Error::from_raw_os_error(1) };
        assert!(refused.to_string().contains("CAP_NET_ADMIN"), "{refused}");
    }
}
