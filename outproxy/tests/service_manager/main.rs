//! What outproxy and a service manager do for each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod manager;
mod peers;

mod handover;
mod heartbeat;
mod inheritance;

/// A configuration with a routed Unix socket and a rule for these ports of 127.0.0.1.
fn config(ports: &[u16], more: &str) -> String {
    format!(
        "[[listen]]\non = 'unix:DIR/routed'\n\
         [[allow]]\nname = 'up'\nhosts = ['127.0.0.1']\nports = {ports:?}\n{more}\
         [log]\nlevel = 'warn'\n"
    )
}

/// A raw listener on a TCP port.
fn raw(port: u16, to: u16) -> String {
    format!("[[listen]]\non = 'tcp:127.0.0.1:{port}'\nto = '127.0.0.1:{to}'\n")
}
