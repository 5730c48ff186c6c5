//! The endpoint of `[metrics]`: what operators and Prometheus ask a running outproxy.

mod fetch;
mod http;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tunnel::accept::accept;
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::listener::Listener;
use tunnel::stream::Stream;

pub use self::fetch::{FetchError, fetch};
use self::http::{Method, Response};
use self::logs::{Followers, Following};
pub use self::logs::{LONGEST_SILENCE, MOST_FOLLOWERS};
use crate::overview::Overview;
use crate::recorder::Recorder;
use crate::samples;

/// How many requests are answered at once; further ones are cut off.
pub const MOST_EXCHANGES: usize = 16;
/// How long a request and its answer may take together.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A served admin endpoint, until it is dropped.
#[derive(Debug)]
pub struct Admin {
    listener: Arc<Listener>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Answers on `listener`, whatever happens to connections meanwhile.
    #[must_use]
    pub fn start(listener: Listener, pages: Pages) -> Self {
        let listener = Arc::new(listener);
        let accepting = Arc::clone(&listener);
        let task = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(MOST_EXCHANGES));
            let followers = Followers::default();
            let mut exchanges = JoinSet::new();
            accept(&accepting, |stream, client| {
                while exchanges.try_join_next().is_some() {}
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let (pages, followers) = (pages.clone(), followers.clone());
                    exchanges.spawn(async move {
                        let exchange = exchange(stream, pages, followers);
                        let exchanged = timeout(EXCHANGE_TIMEOUT, exchange).await;
                        drop(place);
                        if let Ok(Some((client, following))) = exchanged {
                            following.run(client).await;
                        }
                    });
                } else {
                    tracing::debug!(%client, "too many requests for metrics at once");
                }
            })
            .await;
        });
        Self { listener, task }
    }

    /// What it accepts requests from.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.listener
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What there is to read.
#[derive(Clone, Debug)]
pub struct Pages {
    /// For `/status`.
    pub overview: Arc<Overview>,
    /// For `/metrics`.
    pub recorder: Recorder,
}

impl Pages {
    fn get(&self, path: &str) -> Response {
        match path {
            "/healthz" if self.overview.is_draining() => {
                Response::error(503, "Service Unavailable", "draining")
            }
            "/healthz" => Response::ok("text/plain; charset=utf-8", "ok\n".into()),
            "/metrics" => {
                let text = self.recorder.render(|| samples::take(&self.overview));
                Response::ok("text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/status" => match serde_json::to_string_pretty(&self.overview.status()) {
                Ok(json) => Response::ok("application/json", json + "\n"),
                Err(error) => Response::error(500, "Internal Server Error", &error.to_string()),
            },
            _ => {
                let pages = "there are /healthz, /logs, /metrics and /status";
                Response::error(404, "Not Found", pages)
            }
        }
    }
}

/// Answers one request; a client that follows is returned with what it follows.
async fn exchange(
    mut client: Stream,
    pages: Pages,
    followers: Followers,
) -> Option<(Stream, Following)> {
    let mut reader = HeadReader::default();
    let reading = std::future::poll_fn(|cx| reader.poll(cx, &mut client, http::parse_request));
    let (method, response) = match reading.await {
        Ok((request, _)) if request.path() == "/logs" => {
            let enclaves = pages.overview.service().enclaves();
            match logs::answer(&mut client, &request, enclaves, &followers).await {
                Ok(Ok(Some(following))) => return Some((client, following)),
                Ok(Ok(None)) => {
                    client.hang_up(b"", EXCHANGE_TIMEOUT).await;
                    return None;
                }
                // Nobody is left to answer.
                Ok(Err(_)) => return None,
                Err(response) => (request.method, response),
            }
        }
        Ok((request, _)) => (request.method, pages.get(request.path())),
        Err(HeadError::Parse(error)) => (Method::Get, Response::from(&error)),
        // Nobody is left to answer.
        Err(HeadError::Stream(_)) => return None,
    };
    client.hang_up(&response.encode(method), EXCHANGE_TIMEOUT).await;
    None
}
