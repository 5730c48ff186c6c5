//! What a socat was told; see socat(1).

use std::ops::Range;

use super::script::Word;
use crate::config::Mistakes;
use crate::destination::Port;
use crate::endpoint::{Cid, VsockPort};
use crate::host::Host;

/// A socat between TCP and vsock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Socat {
    /// Where it listens.
    pub listen: Address,
    /// Where it leads what connects.
    pub connect: Address,
    /// What else it was told.
    pub rest: Vec<String>,
}

/// One of the two addresses of a socat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// Where it stands.
    pub at: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What an address of a socat is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `TCP:host:port`
    Tcp(Host, Port),
    /// `TCP-LISTEN:port`, with `bind=host`
    TcpListen(Option<Host>, Port),
    /// `VSOCK-CONNECT:cid:port`
    Vsock(Cid, VsockPort),
    /// `VSOCK-LISTEN:port`
    VsockListen(VsockPort),
}

/// Reads the arguments of a socat; nothing if it does something else than between TCP and vsock,
/// or if they have mistakes.
pub fn parse(arguments: &[Word], mistakes: &mut Mistakes) -> Option<Socat> {
    let mut words = arguments.iter();
    let mut rest = Vec::new();
    let mut addresses = Vec::new();
    while let Some(word) = words.next() {
        if word.text.len() > 1 && word.text.starts_with('-') && addresses.is_empty() {
            let mut option = word.text.clone();
            if TAKE_VALUES.contains(&option.as_str()) {
                option.extend(words.next().map(|value| format!(" {}", value.text)));
            }
            rest.push(option);
        } else {
            addresses.push(word);
        }
    }
    let [one, other] = addresses[..] else { return None };
    // Whatever connects these two is none of ours, so what is not known in it does not matter.
    if !is_known(&one.text) || !is_known(&other.text) {
        return None;
    }
    let one = address(one, &mut rest, mistakes);
    let other = address(other, &mut rest, mistakes);
    let (one, other) = (one?, other?);
    let is_listening =
        |address: &Address| matches!(address.kind, Kind::TcpListen(..) | Kind::VsockListen(_));
    match (is_listening(&one), is_listening(&other)) {
        (true, false) => Some(Socat { listen: one, connect: other, rest }),
        (false, true) => Some(Socat { listen: other, connect: one, rest }),
        _ => None,
    }
}

fn is_known(text: &str) -> bool {
    let (keyword, _) = text.split_once(':').unwrap_or((text, ""));
    KEYWORDS.iter().any(|(known, _)| known.eq_ignore_ascii_case(keyword))
}

fn address(word: &Word, rest: &mut Vec<String>, mistakes: &mut Mistakes) -> Option<Address> {
    let text = word.known(mistakes)?;
    let mut parts = text.split(',');
    let (keyword, place) = parts.next()?.split_once(':')?;
    let mut bind = None;
    for option in parts {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name.to_ascii_lowercase().as_str() {
            "bind" => bind = Some(value),
            name if MEANINGLESS.contains(&name) => {}
            _ => rest.push(option.to_owned()),
        }
    }
    let (_, make) = KEYWORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(keyword))?;
    match make(place, bind) {
        Ok(kind) => Some(Address { at: word.at.clone(), kind }),
        Err(message) => {
            mistakes.add(word.at.clone(), message);
            None
        }
    }
}

type Make = fn(&str, Option<&str>) -> Result<Kind, String>;

fn tcp(place: &str, _: Option<&str>) -> Result<Kind, String> {
    let (host, port) = place
        .rsplit_once(':')
        .ok_or_else(|| format!("`{place}` has no port; write `TCP:<host>:<port>`"))?;
    Ok(Kind::Tcp(host_of(host)?, port.parse().map_err(said)?))
}

fn tcp_listen(place: &str, bind: Option<&str>) -> Result<Kind, String> {
    Ok(Kind::TcpListen(bind.map(host_of).transpose()?, place.parse().map_err(said)?))
}

fn vsock(place: &str, _: Option<&str>) -> Result<Kind, String> {
    let (cid, port) = place
        .split_once(':')
        .ok_or_else(|| format!("`{place}` has no port; write `VSOCK-CONNECT:<cid>:<port>`"))?;
    Ok(Kind::Vsock(cid.parse().map_err(said)?, port.parse().map_err(said)?))
}

fn vsock_listen(place: &str, _: Option<&str>) -> Result<Kind, String> {
    Ok(Kind::VsockListen(place.parse().map_err(said)?))
}

fn host_of(text: &str) -> Result<Host, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inner.parse().map_err(said)
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn said(error: impl ToString) -> String {
    error.to_string()
}

const KEYWORDS: &[(&str, Make)] = &[
    ("tcp", tcp),
    ("tcp-connect", tcp),
    ("tcp-l", tcp_listen),
    ("tcp-listen", tcp_listen),
    ("tcp4", tcp),
    ("tcp4-connect", tcp),
    ("tcp4-l", tcp_listen),
    ("tcp4-listen", tcp_listen),
    ("tcp6", tcp),
    ("tcp6-connect", tcp),
    ("tcp6-l", tcp_listen),
    ("tcp6-listen", tcp_listen),
    ("vsock", vsock),
    ("vsock-connect", vsock),
    ("vsock-l", vsock_listen),
    ("vsock-listen", vsock_listen),
];

/// Options whose value is the next word.
const TAKE_VALUES: &[&str] = &["-b", "-L", "-lf", "-lp", "-r", "-R", "-S", "-t", "-T", "-W"];

/// What the proxies do anyway.
const MEANINGLESS: &[&str] = &[
    "backlog",
    "fork",
    "keepalive",
    "nodelay",
    "pf",
    "reuseaddr",
    "so-keepalive",
    "so-reuseaddr",
    "tcp-nodelay",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::script::{Variables, parse as commands};

    fn socat(text: &str) -> Result<Option<Socat>, String> {
        let mut mistakes = Mistakes::default();
        let commands = commands(text, 0..text.len(), &mut Variables::new(|_| None), &mut mistakes);
        let socat = parse(commands[0].program().unwrap().1, &mut mistakes);
        if mistakes.is_empty() { Ok(socat) } else { Err(mistakes.report(text).to_string()) }
    }

    #[test]
    fn addresses_come_in_any_order_case_and_spelling() {
        let plain = (
            Kind::TcpListen(None, "2223".parse().unwrap()),
            Kind::Vsock(Cid::new(3), "2224".parse().unwrap()),
        );
        for text in [
            "socat TCP4-LISTEN:2223,reuseaddr,fork VSOCK-CONNECT:3:2224 &",
            "socat VSOCK-CONNECT:3:2224 TCP-LISTEN:2223,fork",
            "nohup /usr/bin/socat -d -d -t 30 'tcp-l:2223,fork,reuseaddr' \"vsock:3:2224\" >log 2>&1 &",
            "exec socat -ly TCP6-LISTEN:2223,fork,keepalive,backlog=9 vsock-connect:3:2224,keepalive",
        ] {
            let socat = socat(text).unwrap().unwrap();
            assert_eq!((socat.listen.kind, socat.connect.kind), plain, "{text}");
        }
    }

    #[test]
    fn what_it_is_bound_to_and_what_else_it_is_told_is_kept() {
        let text = "socat -T30 TCP-LISTEN:80,bind=169.254.169.254,su=nobody,range=127.0.0.0/8 VSOCK:3:8010";
        let socat = socat(text).unwrap().unwrap();
        let bind = Some("169.254.169.254".parse().unwrap());
        assert_eq!(socat.listen.kind, Kind::TcpListen(bind, "80".parse().unwrap()));
        assert_eq!(socat.rest, ["-T30", "su=nobody", "range=127.0.0.0/8"]);
        assert!(text[socat.listen.at].starts_with("TCP-LISTEN"));
    }

    #[test]
    fn those_of_the_host_are_understood_too() {
        let socat = socat("socat VSOCK-LISTEN:8002,fork TCP:[fd00::10]:443").unwrap().unwrap();
        assert_eq!(socat.listen.kind, Kind::VsockListen("8002".parse().unwrap()));
        assert_eq!(
            socat.connect.kind,
            Kind::Tcp("fd00::10".parse().unwrap(), "443".parse().unwrap())
        );
    }

    #[test]
    fn others_are_none_of_ours() {
        for text in [
            "socat - VSOCK-CONNECT:3:1",
            "socat UNIX-LISTEN:/a,fork VSOCK-CONNECT:3:$PORT",
            "socat TCP:a:1 VSOCK:3:1",
            "socat -V",
            "socat",
        ] {
            assert_eq!(socat(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, expected) in [
            ("socat TCP-LISTEN:65979 VSOCK:3:1", "port `65979` is out of range"),
            ("socat TCP-LISTEN:https VSOCK:3:1", "port `https`"),
            ("socat TCP-LISTEN:1,bind=010.0.0.1 VSOCK:3:1", "four decimal numbers"),
            ("socat TCP-LISTEN:1 VSOCK:3", "write `VSOCK-CONNECT:<cid>:<port>`"),
            ("socat TCP-LISTEN:1 VSOCK:3:0", "vsock port `0` is out of range"),
            ("socat VSOCK-LISTEN:1 TCP:a", "write `TCP:<host>:<port>`"),
            ("socat VSOCK-LISTEN:1 TCP:127.1:1", "four decimal numbers"),
            ("socat TCP-LISTEN:1,bind=$HSM VSOCK:3:1", "`$HSM` is not known"),
        ] {
            let error = socat(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("\n1 | socat "), "{text}: {error}");
        }
    }
}
