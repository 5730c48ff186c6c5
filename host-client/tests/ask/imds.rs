//! A metadata service that speaks IMDSv2.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Listens for as long as it lives.
pub(crate) struct Imds {
    pub(crate) url: String,
    asked: Receiver<String>,
}

impl Imds {
    /// One that knows a role; without a token it says nothing.
    pub(crate) fn new() -> Self {
        Self::answering(|line, token| match (line, token) {
            ("PUT /latest/api/token", _) => Some("TOKEN".into()),
            ("GET /latest/meta-data/iam/security-credentials/", Some("TOKEN")) => {
                Some("role-of-the-host".into())
            }
            ("GET /latest/meta-data/iam/security-credentials/role-of-the-host", Some("TOKEN")) => {
                Some(format!(
                    r#"{{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"{KEY}","SecretAccessKey":"{SECRET}","Token":"{SESSION}","Expiration":"2099-01-01T00:00:00Z"}}"#
                ))
            }
            _ => None,
        })
    }

    /// One that answers the body or 401; `line` is method and path.
    pub(crate) fn answering(answer: fn(line: &str, token: Option<&str>) -> Option<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, asked) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(&stream, answer, &told);
            }
        });
        Self { url, asked }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

fn serve(
    mut stream: &TcpStream,
    answer: fn(&str, Option<&str>) -> Option<String>,
    told: &Sender<String>,
) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|field| field.1)
    };
    let line = first.trim_end_matches(" HTTP/1.1");
    let ttl = header("x-aws-ec2-metadata-token-ttl-seconds").unwrap_or("0");
    let (status, body) = match answer(line, header("x-aws-ec2-metadata-token")) {
        Some(body) => ("200 OK", body),
        None => ("401 Unauthorized", String::new()),
    };
    let length = body.len();
    // Whoever asked may have gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nx-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = told.send(line.to_owned());
}

pub(crate) const KEY: &str = "ASIACANARYKEY";
pub(crate) const SECRET: &str = "canary/Secret+Key";
pub(crate) const SESSION: &str = "CanarySessionToken==";
