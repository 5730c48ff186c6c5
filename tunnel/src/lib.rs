//! What both ends of the tunnel share: endpoints, sockets, the relay and the accept loop.
//!
//! It knows nothing of HSMs and nothing of policy.

pub mod buffer;
pub mod connect;
pub mod destination;
pub mod endpoint;
pub mod host;
pub mod listener;
pub mod relay;
pub mod stream;
pub mod tcp;
pub mod vsock;
