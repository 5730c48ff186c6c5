//! The host's end of the tunnel, and the policy: who may reach what.

pub mod address;
pub mod dial;
pub mod resolver;
