//! What the tests of the secret need around them.

pub(crate) mod authority;
pub(crate) mod canary;
pub(crate) mod imds;
pub(crate) mod moto;
pub(crate) mod service;
