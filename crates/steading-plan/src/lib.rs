//! Everything about a testnet that can be known before anything is touched.
//!
//! A declared [`Testnet`] and the name of its group determine every address, interface name,
//! command line and sum of resources. This crate derives them, as one value, the [`Plan`], and does
//! nothing else: no input or output, no clock, no randomness.

#![forbid(unsafe_code)]

mod address;
mod addressing;
mod chain;
mod channels;
mod command;
mod declaration;
mod declared;
mod dnsmasq;
mod engine;
mod engines;
pub mod env_vars;
mod facts;
pub mod fault;
mod file;
mod file_name;
mod handed;
mod handle;
mod hash;
mod image_source;
mod launch;
mod mac;
mod name;
mod names;
mod nested;
mod plan;
mod plan_error;
mod resources;
mod static_addresses;
mod testnet;
mod testnet_file;
pub mod text;
mod variable;
mod vm_plan;

pub use address::{AddressPlan, KERNEL_ROUTE_METRIC, PrefixError, SourceError};
pub use addressing::Addressing;
pub use chain::chain;
pub use channels::{
    AUTHORIZED_KEY_MAX, ChannelError, Delivery, FW_CFG_DIRECTORY, FW_CFG_FILES_MAX, SMBIOS_MAX,
};
pub use command::{Domain, Launch, QemuCommand};
pub use declaration::{DISK_MIB_MAX, DeclarationError};
pub use declared::{DeclaredVms, ParseDeclaredError, UndeclaredError};
pub use engine::{Engine, ParseEngineError};
pub use engines::{
    Capabilities, Cards, DOMAIN_DIRECTORY, DomainPaths, Guests, RequiredProgram, THAW_PORT, domain,
    libvirt_socket, socket_name,
};
pub use facts::{Acceleration, HostFacts, QemuFacts, SLOW_CPU_FEATURES, slow_features};
pub use fault::{Direction, Effect, Fault, FaultError, Ruleset};
pub use file::{FILES_PORT, FileEffect, FileFault, FileFaultError, FileNameError, FileSource, TARGETS_NAME};
pub use file_name::file_name;
pub use handed::{HandedError, handed_image};
pub use handle::Handle;
pub use hash::{ParseSha256Error, Sha256};
pub use image_source::ImageSource;
pub use launch::{
    InterfaceRecord, LAUNCHED_VMS_MAX, LaunchError, LaunchRequest, ParseMarkError, ProcessMark,
    ServiceAddress, Transport,
};
pub use mac::{MacAddr, ParseMacError};
pub use name::{GroupName, IFNAME_MAX, IfName, LABEL_MAX, NameError, ParseIfNameError, VmName};
pub use names::{
    DnsName, DnsNameError, Lookup, Record, RecordData, RecordError, RecordTable, ResolverError,
    StrangeNameError, Zone, ZoneData, check_resolver,
};
pub use nested::NestedError;
pub use plan::Plan;
pub use plan_error::PlanError;
pub use resources::{HostResources, OVERHEAD_MIB, OVERSUBSCRIPTION, ResourceError, Resources};
pub use testnet::{Boot, CloudInit, GuestConfig, Testnet, VmSpec, default_memory_mib, default_vcpus};
pub use testnet_file::{Guest, GuestFiles, TestnetFile, TestnetFileError};
pub use variable::{
    Environment, Expected, VARIABLES, Variable, VariableError, check_variables, integer_variable,
    number_variable, text_variable,
};
pub use vm_plan::VmPlan;
