//! What the C library takes for an address: inet_aton(3) and inet_pton(3), once more by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One to four numbers, each octal, decimal or hexadecimal; the last fills what is left.
pub(super) fn aton(text: &str) -> Option<Ipv4Addr> {
    // A NUL ends a string of C; and glibc ignores whatever follows white space.
    let text = text.split(['\0', ' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).next()?;
    let parts: Vec<u64> = text.split('.').map(c_number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let bits_left = 32_u32.checked_sub(8 * u32::try_from(first.len()).ok()?)?;
    if bits_left == 0 || first.iter().any(|part| *part > 255) || *last >= 1 << bits_left {
        return None;
    }
    let high = first.iter().fold(0, |high, part| high << 8 | *part);
    u32::try_from(high << bits_left | *last).ok().map(Ipv4Addr::from)
}

/// What strtoul(3) with base 0 makes of all of a text that begins with a digit.
fn c_number(text: &str) -> Option<u64> {
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // `from_str_radix` takes a sign.
    digits.starts_with(|c: char| c.is_digit(base)).then_some(())?;
    u64::from_str_radix(digits, base).ok()
}

/// Four decimal numbers without leading zeros.
pub(super) fn pton4(text: &str) -> Option<Ipv4Addr> {
    let part = |part: &str| {
        let is_canonical = part == "0" || !part.starts_with('0');
        let is_decimal = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        (is_canonical && is_decimal).then(|| part.parse::<u8>().ok())?
    };
    let parts: Vec<u8> = text.split('.').map(part).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(parts).ok().map(Ipv4Addr::from)
}

/// RFC 4291 section 2.2.
pub(super) fn pton6(text: &str) -> Option<Ipv6Addr> {
    let bytes = match text.split_once("::") {
        None => groups(text, true)?,
        Some((head, tail)) => {
            let (mut bytes, tail) = (groups(head, false)?, groups(tail, true)?);
            // At least one group is left out.
            let gap = 16_usize.checked_sub(bytes.len() + tail.len()).filter(|gap| *gap >= 2)?;
            bytes.resize(bytes.len() + gap, 0);
            [bytes, tail].concat()
        }
    };
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

fn groups(text: &str, may_end_in_ipv4: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut groups = text.split(':').filter(|_| !text.is_empty()).peekable();
    while let Some(group) = groups.next() {
        if may_end_in_ipv4 && groups.peek().is_none() && group.contains('.') {
            bytes.extend(pton4(group)?.octets());
        } else {
            let is_hex = group.bytes().all(|byte| byte.is_ascii_hexdigit());
            (is_hex && (1..=4).contains(&group.len())).then_some(())?;
            bytes.extend(u16::from_str_radix(group, 16).ok()?.to_be_bytes());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_manuals_say() {
        let loopback = Some(Ipv4Addr::LOCALHOST);
        for text in ["127.1", "127.0.1", "0x7f.1", "0177.0.0.01", "2130706433", "127.1 x"] {
            assert_eq!(aton(text), loopback, "{text}");
            assert_eq!(pton4(text), None, "{text}");
        }
        for text in ["", "127.", ".1", "256.1", "1.2.3.256", "1.2.3.4.5", "08", "0x", "4294967296"]
        {
            assert_eq!(aton(text), None, "{text}");
        }
        assert_eq!((aton("127.0.0.1"), pton4("127.0.0.1")), (loopback, loopback));
        for (text, ip) in [("::", "::"), ("::1", "::1"), ("1::8:1.2.3.4", "1::8:102:304")] {
            assert_eq!(pton6(text), Some(ip.parse().unwrap()), "{text}");
        }
        for text in ["", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "::12345", "1.2.3.4::", "::%1"] {
            assert_eq!(pton6(text), None, "{text}");
        }
    }
}
