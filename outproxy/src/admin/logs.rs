//! `/logs`: the lines that enclaves have told, one JSON object each, as a page or as they come.
//!
//! `cid=16` asks for those of one enclave, `lines=100` for the newest ones, and `follow=1` for all
//! that come from then on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tunnel::stream::Stream;

use super::http::{Method, Request, Response};
use crate::enclaves::{Cursor, EnclaveId, Enclaves, LoggedLine};

/// How many clients may follow at once.
pub const MOST_FOLLOWERS: usize = 8;

/// Those who follow, at most [`MOST_FOLLOWERS`].
#[derive(Clone, Debug)]
pub(super) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_FOLLOWERS)))
    }
}

/// What a client asks for.
#[derive(Debug, Eq, PartialEq)]
struct Question {
    only: Option<EnclaveId>,
    most: Option<usize>,
    follows: bool,
}

impl Question {
    fn parse(request: &Request) -> Result<Self, String> {
        let mut question = Self { only: None, most: None, follows: false };
        for (key, value) in request.query() {
            match (key, value) {
                ("cid", _) => {
                    question.only = Some(value.parse().map_err(|error| format!("{error}"))?);
                }
                ("follow", "0") => question.follows = false,
                ("follow", "1") => question.follows = true,
                ("lines", _) => {
                    let most = value.parse().map_err(|_| "`lines` is not a number")?;
                    question.most = Some(most);
                }
                _ => return Err("there are `cid=<CID>`, `lines=<number>` and `follow=1`".into()),
            }
        }
        Ok(question)
    }
}

/// Answers a request. What it returns goes on as long as the client likes.
///
/// # Errors
///
/// The response to give instead.
pub(super) async fn answer(
    client: &mut Stream,
    request: &Request,
    enclaves: &Arc<Enclaves>,
    followers: &Followers,
) -> Result<io::Result<Option<Following>>, Response> {
    let question =
        Question::parse(request).map_err(|error| Response::error(400, "Bad Request", &error))?;
    let unknown = question.only.filter(|id| !question.follows && !enclaves.knows(*id));
    if let Some(id) = unknown {
        let text = format!("no enclave with CID {id} has told anything");
        return Err(Response::error(404, "Not Found", &text));
    }
    let permit = question.follows.then(|| Arc::clone(&followers.0).try_acquire_owned());
    let Ok(permit) = permit.transpose() else {
        let text = format!("{MOST_FOLLOWERS} clients follow already");
        return Err(Response::error(503, "Service Unavailable", &text));
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
                Transfer-Encoding: chunked\r\nCache-Control: no-store\r\n\
                Connection: close\r\n\r\n";
    let enclaves = Arc::clone(enclaves);
    Ok(async {
        client.write_all(head.as_bytes()).await?;
        if request.method == Method::Head {
            return Ok(None);
        }
        let Question { only, most, follows } = question;
        let mut cursor =
            if follows { enclaves.cursor(only, most) } else { enclaves.page(only, most) };
        tell(client, &enclaves, &mut cursor).await?;
        match permit {
            Some(permit) => Ok(Some(Following { enclaves, cursor, _permit: permit })),
            None => {
                client.write_all(b"0\r\n\r\n").await?;
                Ok(None)
            }
        }
    }
    .await)
}

/// A client that wants all that comes.
#[derive(Debug)]
pub(super) struct Following {
    enclaves: Arc<Enclaves>,
    cursor: Cursor,
    _permit: OwnedSemaphorePermit,
}

impl Following {
    /// Tells a client until it hangs up, or takes nothing any more.
    pub(super) async fn run(mut self, client: Stream) {
        let (mut from, mut to) = split(client);
        let hung_up = async { while matches!(from.read(&mut [0; 64]).await, Ok(1..)) {} };
        tokio::select! {
            () = hung_up => {}
            // It is gone, which is no news.
            _ = self.tell(&mut to) => {}
        }
    }

    async fn tell(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            // Before it is looked, so that nothing comes in between.
            let enclaves = Arc::clone(&self.enclaves);
            let changed = enclaves.changed();
            timeout(LONGEST_STALL, tell(to, &self.enclaves, &mut self.cursor)).await??;
            tokio::select! {
                () = changed => {}
                // Whoever has gone without a word is found out.
                () = sleep(LONGEST_SILENCE) => to.write_all(&chunk(b"\n")).await?,
            }
        }
    }
}

/// Tells all that is there.
async fn tell(
    to: &mut (impl AsyncWrite + Unpin),
    enclaves: &Enclaves,
    cursor: &mut Cursor,
) -> io::Result<()> {
    loop {
        let lines = enclaves.read(cursor, LINES_PER_CHUNK);
        if lines.is_empty() {
            return Ok(());
        }
        to.write_all(&chunk(&encode(&lines)?)).await?;
    }
}

fn encode(lines: &[LoggedLine]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// RFC 9112 section 7.1.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const LINES_PER_CHUNK: usize = 100;
/// How long a client that follows may take to take something.
const LONGEST_STALL: Duration = Duration::from_secs(60);
/// How long nothing is said to a client that follows.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(30);
