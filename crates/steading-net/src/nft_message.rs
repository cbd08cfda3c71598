//! Messages for netfilter's part of netlink, byte by byte.

/// The header of a netlink message, in bytes (netlink(7)).
const HEADER: usize = 16;

/// `NFNL_SUBSYS_NFTABLES` (`linux/netfilter/nfnetlink.h`).
const NFTABLES: u8 = 10;

/// Flags of requests (netlink(7)).
mod flag {
    pub(super) const REQUEST: u16 = 0x1;
    pub(super) const ACKNOWLEDGE: u16 = 0x4;
    pub(super) const CREATE: u16 = 0x400;
    pub(super) const APPEND: u16 = 0x800;
}

/// One request to nftables.
pub(crate) struct Message {
    family: u8,
    kind: u8,
    flags: u16,
    pub(crate) attributes: Attributes,
}

impl Message {
    pub(crate) fn new(family: u8, kind: u8) -> Self {
        Self { family, kind, flags: flag::REQUEST | flag::CREATE, attributes: Attributes::default() }
    }

    /// Behind what is there already.
    pub(crate) fn appended(mut self) -> Self {
        self.flags |= flag::APPEND;
        self
    }
}

/// Attributes of a message, one behind the other. All numbers are in network byte order.
#[derive(Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend_from_slice(value));
    }

    /// A text, which ends with NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        /// `NLA_F_NESTED` (`linux/netlink.h`).
        const NESTED: u16 = 0x8000;
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(&mut self.0);
        let length = u16::try_from(self.0.len() - start).expect("no attribute here comes near 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Messages that come into force together, or not at all.
pub(crate) struct Batch {
    messages: Vec<Message>,
    bytes: Vec<u8>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { messages: Vec::new(), bytes: Vec::new() }
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Puts them between a beginning and an end (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`). The
    /// last is to be acknowledged.
    pub(crate) fn finish(mut self) -> Self {
        const BEGIN: u16 = 0x10;
        const END: u16 = 0x11;
        if let Some(last) = self.messages.last_mut() {
            last.flags |= flag::ACKNOWLEDGE;
        }
        self.put(BEGIN, flag::REQUEST, 0, u16::from(NFTABLES), &[]);
        for message in std::mem::take(&mut self.messages) {
            let kind = u16::from_be_bytes([NFTABLES, message.kind]);
            self.put(kind, message.flags, message.family, 0, &message.attributes.0);
        }
        self.put(END, flag::REQUEST, 0, u16::from(NFTABLES), &[]);
        self
    }

    fn put(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
        /// `NFNETLINK_V0`.
        const VERSION: u8 = 0;
        let length = u32::try_from(HEADER + 4 + attributes.len()).expect("no message here comes near 4 GiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        // Sequence and port: nobody else uses this socket, and the kernel knows it.
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&[family, VERSION]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(attributes);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
