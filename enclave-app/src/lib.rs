//! The application in the enclave: creates, finds, uses and deletes keys in HSMs, for whoever asks
//! from the parent instance.
//!
//! The PKCS#11 module runs in a child process ([`worker`]), because it may hang or crash: PKCS#11
//! has no time-outs. [`hsm`] starts it, watches it, logs in, and replaces it.

pub mod cli;
pub mod config;
pub mod hardening;
pub mod hsm;
mod journal;
pub mod nsm;
pub mod pin;
pub mod secret;
pub mod server;
pub mod service;
mod session;
pub mod wire;
pub mod worker;
