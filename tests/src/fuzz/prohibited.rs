//! Where a name must not lead, as one list of the blocks of outproxy's documentation, bit by bit.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// The family, and the bits of the prefix.
pub(super) fn bits(block: IpNet) -> String {
    let all = match block.network() {
        IpAddr::V4(ip) => format!("{:032b}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:0128b}", u128::from(ip)),
    };
    family(block) + &all[..block.prefix_len().into()]
}

/// Whether all of a block is prohibited. An address is a block of one, and is not IPv4-mapped.
pub(super) fn is_prohibited(block: IpNet) -> bool {
    let block = bits(block);
    let covers = |pattern: &String| {
        let matches = |(wanted, bit): (char, char)| wanted == '?' || wanted == bit;
        pattern.len() <= block.len() && pattern.chars().zip(block.chars()).all(matches)
    };
    PATTERNS.iter().any(covers)
}

/// In which `?` stands for either bit.
static PATTERNS: LazyLock<Vec<String>> = LazyLock::new(patterns);

fn patterns() -> Vec<String> {
    let v4: Vec<String> = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4"]
        .map(net)
        .into_iter()
        .chain([net("255.255.255.255/32")])
        .map(bits)
        .collect();
    let v6 = ["::/128", "::1/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32"];
    let mut patterns: Vec<String> = v6.map(net).map(bits).into();
    for carried in v4.iter().map(|block| &block[1..]) {
        for before in [
            bits(net("::/96")),
            bits(net("::ffff:0:0:0/96")),
            bits(net("64:ff9b::/96")),
            bits(net("64:ff9b:1::/48")) + &"?".repeat(48),
            format!("6{}{:016b}{:016b}", "?".repeat(64), 0, 0x5efe),
            format!("6{}{:016b}{:016b}", "?".repeat(64), 0x200, 0x5efe),
            bits(net("2002::/16")),
        ] {
            patterns.push(before + carried);
        }
        let inverted: String =
            carried.chars().map(|bit| if bit == '0' { '1' } else { '0' }).collect();
        patterns.push(bits(net("2001::/32")) + &"?".repeat(64) + &inverted);
    }
    patterns.extend(v4);
    patterns
}

fn family(block: IpNet) -> String {
    if matches!(block, IpNet::V4(_)) { "4".into() } else { "6".into() }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a block")
}
