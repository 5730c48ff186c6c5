//! The lines of inproxy in a hosts file.

use std::net::{IpAddr, Ipv4Addr};

use inproxy::hosts;
use tunnel::host::DnsName;

use super::cursor::Cursor;

/// Ours come first and are what they should be; those of others stay as they are.
pub fn hosts_file(data: &[u8]) {
    let mut choices = Cursor::new(data);
    let [one, two] = [(); 2].map(|()| entries(&mut choices));
    let file = choices.rest();

    let new = hosts::edit(file, &one);
    assert_eq!(hosts::edit(&new, &one), new, "a second edit changes something");
    assert_eq!(hosts::edit(&hosts::edit(file, &two), &one), new, "an earlier edit leaves traces");
    let left = hosts::edit(&new, &[]);
    assert_eq!(left, others(file), "lines of others are lost or changed");
    let ours = new.strip_suffix(&left[..]).expect("the lines of others come last");
    let ours = str::from_utf8(ours).expect("text");
    assert!(ours.is_empty() || ours.ends_with('\n'));
    assert_eq!(ours.lines().count(), one.len());
    for (ip, name) in &one {
        let is_first = |(_, other): &&(IpAddr, DnsName)| other == name;
        let first = one.iter().find(is_first).map_or(*ip, |(ip, _)| *ip);
        assert_eq!(lookup(&String::from_utf8_lossy(&new), name.as_str()), Some(first));
    }
}

/// Every line but those that end in our mark and white space.
fn others(file: &[u8]) -> Vec<u8> {
    let mut others = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let is_white = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c');
        let white = line.iter().rev().take_while(is_white).count();
        if !line[..line.len() - white].ends_with(b" # added by inproxy") {
            others.extend(line);
        }
    }
    others
}

/// What a reader of hosts(5) finds first.
fn lookup(file: &str, name: &str) -> Option<IpAddr> {
    file.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(ip)
    })
}

fn entries(choices: &mut Cursor<'_>) -> Vec<(IpAddr, DnsName)> {
    (0..choices.below(4))
        .map(|_| {
            let ip = Ipv4Addr::from(choices.array());
            let name = choices.pick(&["a", "hsm.example", "HSM.example.", "xn--bcher-kva.example"]);
            (ip.into(), name.parse().expect("a name"))
        })
        .collect()
}
