//! The host's end of the tunnel, and the policy: who may reach what.

pub mod address;
pub mod admin;
pub mod allowlist;
pub mod cli;
pub mod config;
pub mod dial;
pub mod doctor;
pub mod frontend;
pub mod health;
pub mod import;
pub mod journal;
pub mod meters;
pub mod notices;
pub mod outcomes;
pub mod overview;
pub mod policy;
pub mod recorder;
pub mod refusal;
pub mod resolver;
pub mod samples;
pub mod server;
pub mod service;
pub mod status;
pub mod table;
pub mod tally;
