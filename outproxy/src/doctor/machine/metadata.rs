//! Whether the metadata service of EC2 answers, and only to whom it should.
//!
//! host-client takes the credentials of the instance's role from there.

use std::env;
use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tunnel::connect::connect;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::examination::Finding;

/// Asks for a token, and then for something without one. The token is not used.
pub(super) async fn examine() -> Finding {
    let url = env::var(VARIABLE).unwrap_or_default();
    let Some(service) = parse(if url.is_empty() { DEFAULT } else { &url }) else {
        return Finding::skipped(SUBJECT, format!("`{VARIABLE}` is no `http://<address>:<port>`"));
    };
    let token = ask(
        &service,
        "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
         Content-Length: 0\r\n",
    )
    .await;
    let without = match token {
        Ok(200) => ask(&service, "GET /latest/meta-data/ HTTP/1.1\r\n").await.ok(),
        _ => None,
    };
    judge(&service, token, without)
}

fn judge(service: &Destination, token: Result<u16, Trouble>, without: Option<u16>) -> Finding {
    match (token, without) {
        (Ok(200), Some(200)) => Finding::warning(
            SUBJECT,
            "tokens-optional",
            "answers also without a token (IMDSv1), which whoever gets a server here to fetch a \
             page for him can misuse",
            "`aws ec2 modify-instance-metadata-options --http-tokens required --instance-id ...`",
        ),
        (Ok(200), _) => Finding::ok(SUBJECT, "answers, and wants tokens (IMDSv2)"),
        (Ok(403), _) => Finding::warning(
            SUBJECT,
            "disabled",
            format!("`{service}` refuses: it is turned off for this instance"),
            ENABLE,
        ),
        (Ok(status), _) => Finding::warning(
            SUBJECT,
            "strange",
            format!("`{service}` answers {status} to who asks for a token"),
            "see what answers there in the place of the metadata service",
        ),
        (Err(Trouble::Silent), _) => Finding::warning(
            SUBJECT,
            "hop-limit",
            format!("`{service}` takes the connection, but its token does not arrive"),
            "in a container it needs another hop: `aws ec2 modify-instance-metadata-options \
             --http-put-response-hop-limit 2 --instance-id ...`",
        ),
        (Err(Trouble::Connect(error)), _) => Finding::warning(
            SUBJECT,
            "no-metadata",
            format!(
                "`{service}` cannot be reached ({error}), so there are no credentials of a role"
            ),
            ENABLE,
        ),
        (Err(Trouble::Strange), _) => Finding::warning(
            SUBJECT,
            "strange",
            format!("what `{service}` answers is no HTTP"),
            "see what answers there in the place of the metadata service",
        ),
    }
}

/// Why there is no status.
#[derive(Debug)]
enum Trouble {
    Connect(io::Error),
    Silent,
    Strange,
}

/// The status that a request is answered with.
async fn ask(service: &Destination, request: &str) -> Result<u16, Trouble> {
    let endpoint = Endpoint::Tcp(service.clone());
    let mut stream = connect(&endpoint, PATIENCE).await.map_err(Trouble::Connect)?;
    let exchange = async {
        let request = format!("{request}Host: {service}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|_| Trouble::Strange)?;
        let mut answer = Vec::new();
        while answer.len() < MOST {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    if let Some(status) = status(&answer)? {
                        return Ok(status);
                    }
                }
            }
        }
        Err(Trouble::Strange)
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap_or(Err(Trouble::Silent));
    stream.finish();
    answer
}

/// That of an answer, once all of its head is there.
fn status(answer: &[u8]) -> Result<Option<u16>, Trouble> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let head = response.parse(answer).map_err(|_| Trouble::Strange)?;
    Ok(head.is_complete().then_some(response.code).flatten())
}

/// `http://169.254.169.254`, or with a port.
fn parse(url: &str) -> Option<Destination> {
    let authority = url.strip_prefix("http://")?.trim_end_matches('/');
    let destination: Destination =
        authority.parse().or_else(|_| format!("{authority}:80").parse()).ok()?;
    // There is no resolver here: the service has an address.
    matches!(destination.host, tunnel::host::Host::Ip(_)).then_some(destination)
}

const SUBJECT: &str = "metadata service";
const DEFAULT: &str = "http://169.254.169.254";
/// As AWS's own programs know it.
const VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const PATIENCE: Duration = Duration::from_secs(1);
/// The head of an answer is shorter.
const MOST: usize = 16 * 1024;
const ENABLE: &str = "if this is EC2, `aws ec2 modify-instance-metadata-options --http-endpoint \
     enabled --instance-id ...`; elsewhere give host-client credentials by its environment";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    fn problem(token: Result<u16, Trouble>, without: Option<u16>) -> Option<&'static str> {
        judge(&parse(DEFAULT).unwrap(), token, without).problem
    }

    #[test]
    fn a_service_that_wants_tokens_is_well() {
        assert_eq!(problem(Ok(200), Some(401)), None);
        assert_eq!(problem(Ok(200), None), None);
        assert_eq!(problem(Ok(200), Some(200)), Some("tokens-optional"));
        assert_eq!(problem(Ok(403), None), Some("disabled"));
        assert_eq!(problem(Ok(500), None), Some("strange"));
        assert_eq!(problem(Err(Trouble::Silent), None), Some("hop-limit"));
    }

    #[test]
    fn an_endpoint_is_an_address_by_http() {
        assert_eq!(parse(DEFAULT).unwrap().to_string(), "169.254.169.254:80");
        assert_eq!(parse("http://[fd00:ec2::254]/").unwrap().to_string(), "[fd00:ec2::254]:80");
        assert_eq!(parse("http://127.0.0.1:1338/").unwrap().port.get(), 1338);
        assert_eq!(parse("http://localhost:1338"), None);
        assert_eq!(parse("169.254.169.254"), None);
    }

    async fn ask_one_that_says(answer: &'static [u8]) -> Result<u16, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(answer).unwrap();
            // Until whoever asked has heard enough.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let status = ask(&service, "GET / HTTP/1.1\r\n").await;
        server.join().unwrap();
        status
    }

    #[tokio::test]
    async fn what_is_answered_is_told_from_what_is_not() {
        assert_eq!(ask_one_that_says(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await.unwrap(), 401);
        assert!(matches!(ask_one_that_says(b"SSH-2.0-x\r\n").await, Err(Trouble::Strange)));
        assert!(matches!(ask_one_that_says(b"").await, Err(Trouble::Silent)));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nobody = parse(&format!("http://{nobody}")).unwrap();
        assert!(matches!(ask(&nobody, "").await, Err(Trouble::Connect(_))));
    }
}
