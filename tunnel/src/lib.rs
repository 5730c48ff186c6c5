//! What both ends of the tunnel share: endpoints, sockets, the relay and the accept loop.
//!
//! It knows nothing of HSMs and nothing of policy.

pub mod accept;
pub mod backlog;
pub mod buffer;
pub mod chain;
pub mod cidr;
pub mod config;
pub mod connect;
pub mod connections;
pub mod destination;
pub mod documents;
pub mod endpoint;
pub mod event_loop;
pub mod examination;
pub mod head;
pub mod head_reader;
pub mod host;
pub mod import;
pub mod kernel;
pub mod label;
pub mod limits;
pub mod listener;
pub mod log;
mod log_copy;
mod log_escape;
pub mod log_limit;
mod log_line;
mod log_writer;
pub mod lossy_writer;
pub mod metrics;
pub mod notices;
pub mod output;
pub mod pipe;
pub mod process;
pub mod proxy_status;
pub mod queues;
pub mod records;
pub mod relay;
pub mod resources;
pub mod signals;
pub mod stream;
pub mod tcp;
pub mod telemetry;
pub mod traffic;
pub mod vsock;
mod watch;
