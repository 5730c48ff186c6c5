//! The other side of `/logs`: prints what enclaves have told, as it comes.

use std::io::{self, Write};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tunnel::connect::connect;
use tunnel::endpoint::Endpoint;

use crate::admin::{EXCHANGE_TIMEOUT, FetchError, LONGEST_SILENCE};
use crate::enclaves::{EnclaveId, LoggedLine};

/// Which lines are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Those of one enclave, or of all.
    pub only: Option<EnclaveId>,
    /// Only so many, the newest, of what is there already.
    pub lines: Option<usize>,
    /// Also all that come.
    pub follow: bool,
}

impl Wanted {
    fn path(&self) -> String {
        let mut path = format!("/logs?follow={}", u8::from(self.follow));
        if let Some(only) = self.only {
            path += &format!("&cid={only}");
        }
        if let Some(lines) = self.lines {
            path += &format!("&lines={lines}");
        }
        path
    }
}

/// Prints to `out` what the outproxy whose `[metrics] listen` is `endpoint` has: as `json`, or for
/// people.
///
/// # Errors
///
/// [`FetchError`], also if outproxy ends while it is followed; none if nobody reads on.
pub async fn print(
    endpoint: &Endpoint,
    wanted: &Wanted,
    json: bool,
    mut out: impl Write,
) -> Result<(), FetchError> {
    let failed = |source| FetchError::Failed { endpoint: endpoint.clone(), source };
    let stream = connect(endpoint, EXCHANGE_TIMEOUT)
        .await
        .map_err(|source| FetchError::Connect { endpoint: endpoint.clone(), source })?;
    let mut stream = BufReader::new(stream);
    let asking = async {
        let request = format!("GET {} HTTP/1.1\r\nHost: outproxy\r\n\r\n", wanted.path());
        stream.write_all(request.as_bytes()).await?;
        Head::read(&mut stream).await
    };
    let asked = timeout(EXCHANGE_TIMEOUT, asking).await;
    let head = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
    match head {
        Some(Head { status: 200, chunked: true }) => {}
        Some(Head { status: 400.., .. }) => {
            let mut reason = String::new();
            let mut body = stream.take(LONGEST_REASON);
            body.read_to_string(&mut reason).await.map_err(failed)?;
            return Err(FetchError::Refused(reason.trim_end().into()));
        }
        _ => return Err(FetchError::Strange(endpoint.clone())),
    }
    let mut lines = Vec::new();
    while let Some(chunk) = read_chunk(&mut stream).await.map_err(failed)? {
        lines.extend(chunk);
        let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') else { continue };
        let rest = lines.split_off(end + 1);
        let text = if json { without_blanks(&lines) } else { for_people(&lines) };
        let text = text.ok_or_else(|| FetchError::Strange(endpoint.clone()))?;
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // As with `| head`: whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.map_err(FetchError::Print)?,
        }
        lines = rest;
    }
    Ok(())
}

/// What an answer begins with.
struct Head {
    status: u16,
    chunked: bool,
}

impl Head {
    /// `None`: it is not HTTP.
    async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut stream = stream.take(LONGEST_HEAD);
            if stream.read_until(b'\n', &mut head).await? == 0 || head.len() > MAX_HEAD {
                return Ok(None);
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        if !matches!(response.parse(&head), Ok(httparse::Status::Complete(_))) {
            return Ok(None);
        }
        let chunked = response.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("transfer-encoding") && field.value == b"chunked"
        });
        Ok(response.code.map(|status| Self { status, chunked }))
    }
}

/// The next chunk (RFC 9112 section 7.1); nothing after the last one.
async fn read_chunk(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the answer makes no sense");
    let reading = async {
        let mut size = String::new();
        stream.take(LONGEST_SIZE).read_line(&mut size).await?;
        if size.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| strange())?;
        if size > MAX_CHUNK {
            return Err(strange());
        }
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await?;
        if chunk.split_off(size) != b"\r\n" {
            return Err(strange());
        }
        Ok((size > 0).then_some(chunk))
    };
    // It says something from time to time, if only that there is nothing.
    timeout(LONGEST_SILENCE * 3, reading).await?
}

fn for_people(lines: &[u8]) -> Option<String> {
    let mut text = String::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: LoggedLine = serde_json::from_slice(line).ok()?;
        text += &format!("{line}\n");
    }
    Some(text)
}

fn without_blanks(lines: &[u8]) -> Option<String> {
    let lines = std::str::from_utf8(lines).ok()?.lines().filter(|line| !line.is_empty());
    Some(lines.map(|line| format!("{line}\n")).collect())
}

const LONGEST_HEAD: u64 = 8 * 1024;
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
const LONGEST_REASON: u64 = 1024;
const LONGEST_SIZE: u64 = 20;
/// A hundred lines of the longest text, escaped, are less.
const MAX_CHUNK: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_are_read_to_the_last_and_what_is_none_is_an_error() {
        let mut answer = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n".as_slice();
        assert_eq!(read_chunk(&mut answer).await.unwrap().unwrap(), b"abc");
        assert_eq!(read_chunk(&mut answer).await.unwrap().unwrap(), b"0123456789");
        assert_eq!(read_chunk(&mut answer).await.unwrap(), None);
        for bad in ["", "3", "3\r\nab", "3\r\nabcd\r\n", "x\r\n", "-1\r\n", "ffffffff\r\n"] {
            assert!(read_chunk(&mut bad.as_bytes()).await.is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_shown_as_people_or_scripts_want_them() {
        let lines = b"\n{\"time\":\"2026-07-31T12:00:00.000Z\",\"cid\":\"-\",\
            \"source\":\"stderr\",\"level\":\"info\",\"text\":\"a \\\"b\\\"\"}\n\n";
        let text = "2026-07-31T12:00:00.000Z - stderr  info  a \"b\"\n";
        assert_eq!(for_people(lines).unwrap(), text);
        assert_eq!(without_blanks(lines).unwrap().lines().count(), 1);
        assert_eq!(for_people(b"{}\n"), None);
    }
}
