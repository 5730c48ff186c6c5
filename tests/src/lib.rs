//! The lab of the end-to-end tests: an enclave and its parent on one machine, with the real
//! proxies between them.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

pub mod application;
pub mod ca;
pub mod client;
pub mod dns;
pub mod fuzz;
pub mod hsm;
pub mod impostor;
pub mod leg;
pub mod link;
pub mod load;
pub mod namespace;
pub mod patience;
pub mod peers;
pub mod process;
pub mod proxies;
pub mod scripts;
pub mod secrets_manager;
pub mod tls;
pub mod visits;
pub mod vpc;
pub mod vsock;
pub mod world;
