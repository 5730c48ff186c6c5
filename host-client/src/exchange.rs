//! One request for one answer.

use std::io;
use std::time::Duration;

use protocol::frame::{self, FrameError, MAX_BYTES};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tunnel::connect::connect;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::host::Host;
use tunnel::stream::Stream;
use zeroize::Zeroizing;

/// Sends a request and waits for the answer to it, within `limit`; the connection may take as
/// long as `wait` before.
///
/// # Errors
///
/// [`ExchangeError`].
pub async fn exchange(
    endpoint: &Endpoint,
    request: &[u8],
    limit: Duration,
    wait: Option<Duration>,
) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
    let stream = match wait {
        Some(wait) => connect_patiently(endpoint, wait).await,
        None => connect_to(endpoint, limit).await,
    };
    let mut stream =
        stream.map_err(|source| ExchangeError::Connect { endpoint: endpoint.clone(), source })?;
    let answer = timeout(limit, async {
        frame::write(&mut stream, request, MAX_BYTES).await?;
        frame::read(&mut stream, MAX_BYTES).await
    });
    let answer = match answer.await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None) | Err(FrameError::Truncated)) => {
            return Err(ExchangeError::Ended { endpoint: endpoint.clone() });
        }
        Ok(Err(source)) => {
            return Err(ExchangeError::Broken { endpoint: endpoint.clone(), source });
        }
        Err(_) => return Err(ExchangeError::Late { endpoint: endpoint.clone(), limit }),
    };
    // So that the other side reads an end, and no abort.
    stream.hang_up(&[], FAREWELL).await;
    Ok(answer)
}

/// Tries again until `limit` has passed: a listener may not be there yet.
async fn connect_patiently(endpoint: &Endpoint, limit: Duration) -> io::Result<Stream> {
    let deadline = Instant::now() + limit;
    let mut backoff = MIN_BACKOFF;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match connect_to(endpoint, left.min(ATTEMPT).max(MIN_BACKOFF)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if timeout_at(deadline, sleep(backoff)).await.is_err() {
            return Err(error);
        }
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

async fn connect_to(endpoint: &Endpoint, limit: Duration) -> io::Result<Stream> {
    let Endpoint::Tcp(Destination { host: Host::Name(name), port }) = endpoint else {
        return connect(endpoint, limit).await;
    };
    let deadline = Instant::now() + limit;
    let addresses = timeout_at(deadline, lookup_host((name.as_str(), port.get()))).await??;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let host = Host::Ip(address.ip());
        let left = deadline.saturating_duration_since(Instant::now());
        match connect(&Endpoint::Tcp(Destination { host, port: *port }), left).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The connection failed, or carries no frames.
    #[error("failed to exchange messages with `{endpoint}`")]
    Broken {
        /// With whom.
        endpoint: Endpoint,
        /// Why.
        source: FrameError,
    },
    /// Nobody listens.
    #[error("failed to connect to `{endpoint}`")]
    Connect {
        /// To whom.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before the answer did.
    #[error("`{endpoint}` closed the connection without a whole answer")]
    Ended {
        /// Who.
        endpoint: Endpoint,
    },
    /// The answer did not come in time.
    #[error("`{endpoint}` has not answered within {limit:?}")]
    Late {
        /// Who.
        endpoint: Endpoint,
        /// How long it had.
        limit: Duration,
    },
}

/// How long one attempt to connect may take while there are others.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long the other side has to close its end.
const FAREWELL: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
const MIN_BACKOFF: Duration = Duration::from_millis(50);
