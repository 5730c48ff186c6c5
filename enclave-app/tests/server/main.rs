//! A real enclave-app, and those who ask it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod app;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/authority.rs"]
mod authority;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/canary.rs"]
mod canary;
mod client;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "../support/service.rs"]
mod service;
mod vault;

mod check;
mod frames;
mod hardening;
mod keys;
mod life;
mod logging;
