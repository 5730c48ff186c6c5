//! The seed's messages.
