//! Raw clients that are refused: they have no words for it but the abort.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use outproxy::config::Config;
use outproxy::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::{sleep, timeout};
use tunnel::listener::Peer;
use tunnel::stream::Stream;

#[tokio::test(start_paused = true)]
async fn a_client_that_has_half_closed_reads_no_clean_end_of_a_refusal() {
    let (service, mut client) = refuse(b"request", true).await;
    // Longer than the client's own time-out, and than that of most others.
    assert!(timeout(HALF_CLOSE, client.read(&mut [0])).await.is_err());
    drop(client);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&service), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_closes_is_cut_off() {
    let (_service, mut client) = refuse(b"", true).await;
    assert_eq!(timeout(HALF_CLOSE * 3, client.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_not_half_closed_sees_the_abort_at_once() {
    let (_service, mut client) = refuse(b"", false).await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(client.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// A client that says something, perhaps half-closes, and wants to where nobody listens.
async fn refuse(says: &[u8], half_closes: bool) -> (Arc<Service>, UnixStream) {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let config: Config = format!(
        "[[listen]]\non = 'unix:/raw'\nto = '{nobody}'\n\
         [[allow]]\nname = 'a'\nhosts = ['{}']\nports = [{}]\n\
         [limits]\nhalf-close-timeout = '{}s'\n",
        nobody.ip(),
        nobody.port(),
        HALF_CLOSE.as_secs(),
    )
    .parse()
    .unwrap();
    let service = Service::new(&config);
    let (mut client, stream) = UnixStream::pair().unwrap();
    client.write_all(says).await.unwrap();
    if half_closes {
        client.shutdown().await.unwrap();
    }
    let to = Arc::new(nobody.to_string().parse().unwrap());
    service.serve(Stream::try_from(stream).unwrap(), Peer::Unix, Some(to));
    (service, client)
}

const HALF_CLOSE: Duration = Duration::from_secs(60);
