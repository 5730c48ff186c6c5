//! What must hold for whatever bytes come: functions that panic where it does not.
//!
//! `fuzz/fuzz_targets` has a libFuzzer target for each, which looks for such bytes; the test
//! `corpora` calls them with those that are kept in `fuzz/corpus`.

mod allowlist;
mod config;
mod cursor;
mod dns;
mod endpoint;
mod frame;
mod head;
mod hosts_file;
mod import;
mod inet;
mod prohibited;
mod records;
mod relay;
mod request;
mod seed;
mod shown;

pub use self::allowlist::allowlist;
#[cfg(target_env = "gnu")]
pub use self::config::enclave_app_config;
pub use self::config::{inproxy_config, outproxy_config};
pub use self::dns::dns;
pub use self::endpoint::endpoint;
pub use self::frame::frame;
pub use self::head::head;
pub use self::hosts_file::hosts_file;
pub use self::import::{inproxy_import, outproxy_import};
pub use self::records::records;
pub use self::relay::relay;
pub use self::request::request;
pub use self::seed::seed;
