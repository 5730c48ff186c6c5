//! The lab of the end-to-end tests: an enclave and its parent on one machine, with the real
//! proxies between them.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

pub mod dns;
pub mod fuzz;
pub mod leg;
pub mod namespace;
pub mod patience;
pub mod peers;
pub mod process;
pub mod proxies;
pub mod world;
