//! Asks the application in the enclave to create and use keys, and shows what it answers.
//!
//! One run is one request: [`ask`] reads its inputs, fetches credentials, exchanges one frame for
//! another and shows the result. Nothing of it is kept.

pub mod ask;
pub mod cli;
pub mod compat;
pub mod credentials;
pub mod ending;
pub mod exchange;
pub mod files;
pub mod own;
pub mod show;
pub mod text;
