//! The messages between host-client and enclave-app.
//!
//! A connection carries frames: a length of four bytes, little-endian, and so many bytes of JSON.
//! There are two forms of messages: [`request`] and [`answer`] are ours, [`seed`] is that of the
//! Java applications which this suite replaces. [`message`] tells which one a request has.

pub mod action;
pub mod answer;
pub mod bytes;
pub mod encode;
pub mod frame;
pub mod key;
pub mod label;
pub mod malformed;
mod members;
pub mod message;
pub mod request;
pub mod seed;
