//! What both ends of the tunnel share: endpoints, sockets, the relay and the accept loop.
//!
//! It knows nothing of HSMs and nothing of policy.

pub mod cidr;
pub mod config;
pub mod destination;
pub mod endpoint;
pub mod host;
pub mod label;
pub mod limits;
pub mod log;
