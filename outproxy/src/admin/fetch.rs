//! The other side of the admin endpoint: reads one of its pages.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tunnel::connect::connect;
use tunnel::endpoint::Endpoint;
use tunnel::host::Clamped;

use super::EXCHANGE_TIMEOUT;

/// Reads the page at `path` from the outproxy whose `[metrics] listen` is `endpoint`.
///
/// # Errors
///
/// [`FetchError`].
pub async fn fetch(endpoint: &Endpoint, path: &str) -> Result<String, FetchError> {
    let failed = |source| FetchError::Failed { endpoint: endpoint.clone(), source };
    let stream = connect(endpoint, EXCHANGE_TIMEOUT)
        .await
        .map_err(|source| FetchError::Connect { endpoint: endpoint.clone(), source })?;
    let answer = timeout(EXCHANGE_TIMEOUT, async { exchange(stream, path).await });
    let answer = answer.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
    page(&answer.map_err(failed)?).ok_or_else(|| FetchError::Strange(endpoint.clone()))
}

/// Why there is no page.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody listens there, or not for this user.
    #[error("failed to connect to `{endpoint}`; is an outproxy running with this configuration?")]
    Connect {
        /// The endpoint.
        endpoint: Endpoint,
        /// What connect(2) answered.
        source: io::Error,
    },
    /// It broke off, or took too long.
    #[error("failed to read from `{endpoint}`")]
    Failed {
        /// The endpoint.
        endpoint: Endpoint,
        /// What happened.
        source: io::Error,
    },
    /// It cannot be printed.
    #[error("failed to print what was read")]
    Print(#[source] io::Error),
    /// There is no such page.
    #[error("outproxy answers: {0}")]
    Refused(Clamped),
    /// Somebody else answered.
    #[error("what listens on `{0}` does not answer as an outproxy of this version does")]
    Strange(Endpoint),
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: outproxy\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of an answer that grants it, all of which is there.
fn page(answer: &[u8]) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(answer).ok()? else {
        return None;
    };
    let mut lengths =
        response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(lengths.next()?.value).ok()?.parse().ok()?;
    let body = &answer[head..];
    (response.code == Some(200) && body.len() == length)
        .then(|| String::from_utf8(body.to_vec()).ok())
        .flatten()
}

/// A status is long when there are many rules, but not that long.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
const MAX_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_page_is_one() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        assert_eq!(page(whole).unwrap(), "ok\n");
        for end in 0..whole.len() {
            assert_eq!(page(&whole[..end]), None, "{end}");
        }
        assert_eq!(page(b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nok\n"), None);
        assert_eq!(page(b"220 mail.example ESMTP\r\n"), None);
    }
}
