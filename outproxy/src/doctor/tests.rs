use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tunnel::examination::Verdict;

use super::*;

async fn examine_rule(hosts: &str, ports: &[u16]) -> Examination<Details> {
    let config = format!(
        "[[listen]]\non = 'unix:/no/such/directory/routed'\n\
         [[allow]]\nname = 'hsm'\nhosts = {hosts}\nports = {ports:?}\n"
    );
    let config = config.parse().unwrap_or_else(|report| panic!("{report}"));
    let path = Path::new("/no/such/outproxy.toml");
    examine(&config, path, path, None).await
}

/// What was found of the rule, in the order of the file.
fn of_rule(examination: &Examination<Details>) -> Vec<(&str, Verdict, Option<&'static str>)> {
    let findings = examination.findings.iter().filter(|placed| placed.group == "rule");
    findings
        .map(|placed| &placed.finding)
        .map(|finding| (finding.subject.as_str(), finding.result, finding.problem))
        .collect()
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
    let accepting = async {
        // Whoever is asked for TLS, and says no.
        drop(one.accept().await.unwrap());
    };
    let hosts = "['127.0.0.2', '127.0.0.1']";
    let ports = [listening, silent];
    let (examination, ()) = tokio::join!(examine_rule(hosts, &ports), accepting);
    let mut ports = [(listening, Verdict::Ok, None), (silent, Verdict::Failed, Some("refused"))];
    ports.sort_by_key(|port| port.0);
    let expected: Vec<_> = ["127.0.0.2", "127.0.0.1"]
        .into_iter()
        .flat_map(|ip| {
            ports.map(|(port, result, problem)| {
                let is_up = ip == "127.0.0.1";
                let (result, problem) =
                    if is_up { (result, problem) } else { (Verdict::Failed, Some("refused")) };
                (format!("{ip}:{port}"), result, problem)
            })
        })
        .collect();
    let expected: Vec<_> = expected.iter().map(|(s, r, p)| (s.as_str(), *r, *p)).collect();
    assert_eq!(of_rule(&examination), expected);
    assert!(!examination.is_good());
    assert!(examination.to_string().contains("nothing listens on that port"));
}

#[tokio::test]
async fn what_stands_for_many_hosts_is_skipped_aloud_and_is_no_failure() {
    let examination = examine_rule("['10.0.12.0/24', '*.example.com']", &[2223]).await;
    let skipped = |subject| (subject, Verdict::Skipped, None);
    assert_eq!(of_rule(&examination), [skipped("10.0.12.0/24"), skipped("*.example.com")]);
    assert!(examination.to_string().contains("many hosts"));
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_prohibited() {
    // It stands in the hosts file of every machine.
    let examination = examine_rule("['localhost']", &[2223]).await;
    let found = of_rule(&examination);
    assert_eq!(found[0], ("localhost", Verdict::Ok, None));
    assert!(found.len() > 1);
    for (subject, result, problem) in &found[1..] {
        assert_eq!((*result, *problem), (Verdict::Failed, Some("prohibited")), "{subject}");
    }
}
