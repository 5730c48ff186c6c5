//! Allowlists, held against one that takes each rule literally.

mod literal;

use ipnet::IpNet;
use outproxy::address;
use outproxy::allowlist::{Allowlist, Refusal, Rule};

use super::cursor::Cursor;
use super::prohibited::is_prohibited;
use literal::{Host, LiteralRule, Query};

/// A few rules, and a few connections that they decide about.
pub fn allowlist(data: &[u8]) {
    let mut choices = Cursor::new(data);
    let count = 1 + choices.below(5);
    let literal: Vec<_> = (0..count).map(|index| LiteralRule::new(index, &mut choices)).collect();
    let rules: Vec<Rule> = literal.iter().map(LiteralRule::parse).collect();
    let allowlist = Allowlist::new(rules.clone());
    for _ in 0..4 {
        let query = Query::new(&mut choices);
        find(&allowlist, &literal, &query);
        if let Host::Block(ip) = query.host {
            lists(&allowlist, &literal, &query, ip);
        }
        shadow(&rules, &literal, &query);
    }
}

/// The first rule that has all decides; else the first that came closest is named.
fn find(allowlist: &Allowlist, rules: &[LiteralRule], query: &Query) {
    let first = |fits: &dyn Fn(&LiteralRule) -> bool| rules.iter().find(|rule| fits(rule));
    let decides = first(&|rule| rule.matches(query));
    let wrong_peer = first(&|rule| rule.has_host(query) && rule.has_port(query));
    let wrong_port = first(&|rule| rule.has_host(query));
    let found = allowlist.find(query.peer, &query.destination());
    match (&found, decides.or(wrong_peer).or(wrong_port)) {
        (Ok(rule), Some(expected)) if decides.is_some() => {
            assert_eq!(rule.name.as_str(), expected.name);
        }
        (Err(Refusal::Peer { rule, .. }), Some(expected))
            if decides.is_none() && wrong_peer.is_some() =>
        {
            assert_eq!(rule.as_str(), expected.name);
        }
        (Err(Refusal::Port { rule, .. }), Some(expected)) if wrong_peer.is_none() => {
            assert_eq!(rule.as_str(), expected.name);
        }
        (Err(Refusal::Host(_)), None) => {}
        (_, expected) => panic!("{found:?} and not {expected:?}: {query:?} {rules:?}"),
    }
}

/// What makes an address that is prohibited one that is meant.
fn lists(allowlist: &Allowlist, rules: &[LiteralRule], query: &Query, ip: IpNet) {
    assert_eq!(address::is_prohibited(ip.addr()), is_prohibited(ip), "{ip}");
    let meant = |is_meant: &dyn Fn(IpNet) -> bool| {
        let deciding = rules.iter().filter(|rule| rule.has_port(query) && rule.has_peer(query));
        deciding.flat_map(|rule| &rule.hosts).any(|host| match host {
            Host::Block(block) => block.contains(&ip) && is_meant(*block),
            Host::Below(_) | Host::Name(_) => false,
        })
    };
    let is_single = |block: IpNet| block.prefix_len() == block.max_prefix_len();
    let (ip, port) = (ip.addr(), query.port());
    let listed = allowlist.lists_address(query.peer, ip, port);
    assert_eq!(listed, meant(&is_single), "{query:?} {rules:?}");
    let listed = allowlist.lists_prohibited_block(query.peer, ip, port);
    let expected = meant(&|block| !is_single(block) && is_prohibited(block));
    assert_eq!(listed, expected, "{query:?} {rules:?}");
}

/// A rule that has no say matches nothing that the other does not.
fn shadow(rules: &[Rule], literal: &[LiteralRule], query: &Query) {
    for later in 1..rules.len() {
        for earlier in 0..later {
            if rules[later].is_shadowed_by(&rules[earlier]) && literal[later].matches(query) {
                assert!(literal[earlier].matches(query), "{query:?} {literal:?}");
            }
        }
    }
}
