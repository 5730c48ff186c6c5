//! Connecting to an endpoint.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::stream::Stream;
use crate::{tcp, vsock};

/// Connects to an endpoint, within `limit`. Names are not resolved.
///
/// # Errors
///
/// What connect(2) answers, or [`io::ErrorKind::TimedOut`].
pub async fn connect(endpoint: &Endpoint, limit: Duration) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp(destination) => match destination.host {
            Host::Ip(ip) => {
                let address = (ip, destination.port.get()).into();
                let stream = within(limit, tcp::connect(address)).await?;
                tcp::set_upstream_options(&stream);
                Ok(Stream::Tcp(stream))
            }
            Host::Name(_) => Err(io::ErrorKind::Unsupported.into()),
        },
        Endpoint::Unix(path) => Ok(Stream::Unix(within(limit, UnixStream::connect(path)).await?)),
        Endpoint::Vsock { cid, port } => {
            vsock::connect(*cid, *port, limit).await.map(Stream::Vsock)
        }
    }
}

async fn within<T>(limit: Duration, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
