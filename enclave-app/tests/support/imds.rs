//! Stands in for the instance metadata service. Moto's has no TTL in the answer with the token,
//! which the SDK refuses.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::canary;
use super::service::{Service, header, read_request};

/// Serves the credentials of [`canary`].
pub(crate) async fn start() -> Service {
    Service::listen(serve).await
}

async fn serve(mut stream: TcpStream) {
    while let Some(request) = read_request(&mut stream).await {
        let mut words = request.split(' ');
        let body = match (words.next().unwrap(), words.next().unwrap()) {
            ("PUT", "/latest/api/token") => TOKEN.to_owned(),
            _ if header(&request, "x-aws-ec2-metadata-token") != Some(TOKEN) => return,
            ("GET", "/latest/meta-data/iam/security-credentials/") => "role".to_owned(),
            ("GET", "/latest/meta-data/iam/security-credentials/role") => credentials(),
            _ => return,
        };
        let head = "HTTP/1.1 200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
        let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn credentials() -> String {
    serde_json::json!({
        "Code": "Success",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": canary::ACCESS_KEY,
        "SecretAccessKey": canary::SECRET_KEY,
        "Token": canary::SESSION_TOKEN,
        "Expiration": "2126-01-01T00:00:00Z",
    })
    .to_string()
}

const TOKEN: &str = "token-of-the-metadata-service";
