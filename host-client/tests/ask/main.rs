//! The command as its users run it, against scripted enclaves and metadata services.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod compat;
mod credentials;
mod data;
mod documents;
mod enclave;
mod endings;
mod imds;
mod run;
