use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use super::*;

async fn examine_rule(hosts: &str, ports: &[u16]) -> Examination {
    let config = format!(
        "[[listen]]\non = 'vsock:any:8443'\n\
         [[allow]]\nname = 'hsm'\nhosts = {hosts}\nports = {ports:?}\n"
    );
    examine(&config.parse().unwrap_or_else(|report| panic!("{report}"))).await
}

/// A port on which nothing listens, as long as the socket is held.
fn silent_port() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn every_host_is_tried_on_every_port() {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (_held, silent) = silent_port();
    let listening = one.local_addr().unwrap().port();
    let examination = examine_rule("['127.0.0.1', '127.0.0.2']", &[listening, silent]).await;
    let mut found: Vec<_> = examination
        .findings
        .iter()
        .map(|finding| (finding.destination.clone(), finding.result))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let mut expected = vec![
        (format!("127.0.0.1:{listening}"), Verdict::Ok),
        (format!("127.0.0.1:{silent}"), Verdict::Failed("refused")),
        (format!("127.0.0.2:{listening}"), Verdict::Failed("refused")),
        (format!("127.0.0.2:{silent}"), Verdict::Failed("refused")),
    ];
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found, expected);
    assert!(!examination.is_good());
    assert!(examination.to_string().contains("nothing listens on that port"));
}

#[tokio::test]
async fn what_stands_for_many_hosts_is_skipped_aloud_and_is_no_failure() {
    let examination = examine_rule("['10.0.12.0/24', '*.example.com']", &[2223]).await;
    assert!(examination.is_good());
    let shown = examination.to_string();
    for text in ["10.0.12.0/24 port 2223", "*.example.com port 2223", "skipped", "many hosts"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_prohibited() {
    // It stands in the hosts file of every machine.
    let examination = examine_rule("['localhost']", &[2223]).await;
    assert_eq!(examination.findings[0].result, Verdict::Failed("prohibited"));
}
