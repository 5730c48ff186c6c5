//! A real enclave-app, and those who ask it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod app;
mod client;

mod check;
mod frames;
mod hardening;
mod life;
