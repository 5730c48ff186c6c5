//! The enclave's end of the tunnel: its network, its listeners, its application.

mod application;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod forwarder;
pub mod forwards;
pub mod hosts;
pub mod import;
pub mod journal;
pub mod loopback;
pub mod network;
pub mod notices;
pub mod outbox;
pub mod output;
pub mod server;
pub mod supervise;
pub mod telemetry;
