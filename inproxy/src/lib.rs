//! The end of the tunnel inside a Nitro Enclave: local addresses for remote services.
//!
//! An enclave has no network. Here the addresses of remote services become local, so that
//! applications find them where they look for them, and inproxy in their place.

pub mod config;
pub mod forwards;
pub mod hosts;
pub mod loopback;
pub mod network;
pub mod supervise;
