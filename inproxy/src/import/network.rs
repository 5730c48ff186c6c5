//! Addresses that a script makes local: by ifconfig(8), or by ip(8).

use tunnel::cidr::Cidr;
use tunnel::import::script::Word;
use tunnel::import::source::Source;

use super::Found;
use crate::config::reason_to_refuse;

/// `ifconfig lo:0 10.0.10.103 netmask 255.255.255.255 up`; whether it is about `lo`.
pub(super) fn ifconfig(source: &mut Source, arguments: &[Word], found: &mut Found) -> bool {
    let Some((interface, rest)) = arguments.split_first() else { return false };
    if !is_lo(&interface.text) {
        return false;
    }
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "broadcast" | "metric" | "mtu" | "netmask" => drop(words.next()),
            "add" | "alias" | "arp" | "inet" | "inet6" | "up" | "-arp" => {}
            "down" => source.note(&word.at, "`lo` stays up"),
            _ => make_local(source, word, found),
        }
    }
    true
}

/// `ip addr add 10.0.10.103/32 dev lo`, `ip route add local 10.0.10.0/24 dev lo`, or
/// `ip link set lo up`; whether it is one of them.
pub(super) fn ip(source: &mut Source, arguments: &[Word], found: &mut Found) -> bool {
    let is_option = |word: &&Word| word.text.starts_with('-');
    let words = &arguments[arguments.iter().take_while(is_option).count()..];
    let texts: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
    let [object, verb, rest @ ..] = &texts[..] else { return false };
    if !rest.iter().any(|word| is_lo(word)) {
        return false;
    }
    let is = |word: &str, whole: &str| !word.is_empty() && whole.starts_with(word);
    if is(object, "link") && is(verb, "set") {
        return true;
    }
    let is_added = is(verb, "add") || is(verb, "replace");
    if is_added && (is(object, "address") || is(object, "addr")) {
        make_local(source, &words[2], found);
        return true;
    }
    if is_added && is(object, "route") && rest[0] == "local" {
        make_local(source, &words[3], found);
        return true;
    }
    false
}

/// `lo`, or an alias such as `lo:0`.
fn is_lo(interface: &str) -> bool {
    interface == "lo" || interface.starts_with("lo:")
}

fn make_local(source: &mut Source, word: &Word, found: &mut Found) {
    let Some(text) = word.known(&mut source.mistakes) else { return };
    // With ifconfig and `ip addr` the prefix is that of the network, and the address one in it.
    let address = text.split('/').next().unwrap_or_default();
    let parsed = text.parse::<Cidr>().or_else(|_| address.parse());
    match parsed {
        Ok(local) => {
            if let Some(reason) = reason_to_refuse(local).filter(|_| !is_loopback(local)) {
                source.mistakes.add(word.at.clone(), reason);
            }
            found.locals.push(local);
        }
        Err(error) => source.mistakes.add(word.at.clone(), error.to_string()),
    }
}

/// `ifconfig lo 127.0.0.1` is what inproxy does anyway.
fn is_loopback(local: Cidr) -> bool {
    local.net().addr().is_loopback()
}
