//! Answers of name servers.

mod server;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use outproxy::address;
use outproxy::dial::{DialError, dial};
use outproxy::resolver::{Family, Resolver};
use tokio::runtime::Builder;
use tunnel::chain::Chain;

use self::server::{Script, Server};
use super::cursor::Cursor;
use super::prohibited::is_prohibited;
use super::shown::assert_line;

/// Whatever a name server answers, nothing but its own addresses come of it, and none of them is
/// dialled without having been asked for.
pub fn dns(data: &[u8]) {
    // An address that no answer would bring, since the resolver looks only at its own kind.
    classify(Ipv6Addr::from(Cursor::new(data).array::<16>()).to_canonical());

    // Nobody waits for a name server that is silent: then the clock goes on by itself.
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let script = Script::new(data);
        let server = Server::bind().await;
        let resolver = Resolver::with_budget(Some(vec![server.address]), BUDGET);
        tokio::select! {
            () = server.serve(script.clone()) => {}
            () = async {
                look_up(&resolver, &script).await;
                dial_by_name(&resolver).await;
            } => {}
        }
    });
}

async fn look_up(resolver: &Resolver, script: &Script) {
    let mut lookup = resolver.lookup(&NAME.parse().expect("a name"));
    let mut families = Vec::new();
    while let Some((family, answer)) = lookup.next().await {
        families.push(family);
        match answer {
            Ok(addresses) => {
                assert!((1..=64).contains(&addresses.len()));
                for ip in &*addresses {
                    assert_eq!(ip.is_ipv4(), family == Family::V4);
                    assert!(script.holds(*ip), "{ip} comes from nowhere");
                }
            }
            Err(error) => assert_line(&Chain(&error).to_string(), 4000),
        }
    }
    families.sort_by_key(|family| *family == Family::V6);
    assert_eq!(families, [Family::V4, Family::V6]);
}

/// Each address is asked for before it is dialled, and none is where none is permitted.
async fn dial_by_name(resolver: &Resolver) {
    let asked = RefCell::new(Vec::new());
    let permitted = |ip: IpAddr| {
        assert_eq!(ip, ip.to_canonical());
        classify(ip);
        asked.borrow_mut().push(ip);
        false
    };
    let destination = format!("{NAME}:443").parse().expect("a destination");
    let asked_first = |ip| asked.borrow().first() == Some(&ip);
    match dial(&destination, resolver, BUDGET * 2, permitted).await {
        Err(DialError::Prohibited { ip }) => assert!(asked_first(ip)),
        Err(DialError::Dns(_)) => assert!(asked.borrow().is_empty()),
        result => panic!("{result:?}"),
    }
}

fn classify(ip: IpAddr) {
    assert_eq!(address::is_prohibited(ip), is_prohibited(ip.into()), "{ip}");
}

const BUDGET: Duration = Duration::from_secs(3);
const NAME: &str = "hsm.test";
