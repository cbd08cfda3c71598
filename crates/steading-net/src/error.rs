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
