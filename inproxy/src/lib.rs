//! The end of the tunnel inside a Nitro Enclave: local addresses for remote services.

pub mod config;
pub mod forwards;
