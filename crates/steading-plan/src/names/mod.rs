//! What names of a group lead to: records as they are declared, and the table that follows from them.

mod dns_name;
mod record;
mod resolver;
mod zone;

pub use dns_name::{DnsName, DnsNameError};
pub use record::{Record, RecordData, RecordError, RecordTable};
pub use resolver::{ResolverError, check_resolver};
pub use zone::{Lookup, StrangeNameError, Zone, ZoneData};
