//! Why a proxy refused, in the words of RFC 9209.

/// What the `Proxy-Status` field of an answer tells of an error.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyStatus {
    /// The type of error, as in section 2.3, such as `connection_refused`.
    pub error: Option<String>,
    /// What the proxy has to say beside, for people.
    pub details: Option<String>,
}

impl ProxyStatus {
    /// Reads the field in the head of an answer, as far as it is there and makes sense.
    #[must_use]
    pub fn of_head(head: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        // What comes before a mistake is there all the same.
        let _ = response.parse(head);
        let mut values = response
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("proxy-status"))
            .map(|field| Self::parse(&String::from_utf8_lossy(field.value)));
        values.find(|status| status.error.is_some()).unwrap_or_default()
    }

    /// The parameters of one proxy: the first, if there are several.
    fn parse(value: &str) -> Self {
        let mut status = Self::default();
        let mut rest = value;
        while let Some((parameter, behind)) = next_parameter(rest) {
            rest = behind;
            let Some((key, value)) = parameter.split_once('=') else { continue };
            match key.trim() {
                "error" => status.error = Some(unquoted(value.trim())),
                "details" => status.details = Some(unquoted(value.trim())),
                _ => {}
            }
        }
        status
    }
}

/// What stands up to the next `;`, and what behind it. A `,` begins what is another proxy's.
fn next_parameter(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() || text.starts_with(',') {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => return Some((&text[..index], &text[index + 1..])),
            ',' if !quoted => return Some((&text[..index], &text[index..])),
            _ => {}
        }
    }
    Some((text, ""))
}

/// A string as in RFC 9651 section 3.3.3, or a token as it is.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.into() };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

const MAX_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: &str) -> (Option<String>, Option<String>) {
        let head = format!("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: {value}\r\n\r\n");
        let ProxyStatus { error, details } = ProxyStatus::of_head(head.as_bytes());
        (error, details)
    }

    #[test]
    fn the_error_and_its_details_are_found() {
        let both = |error: &str, details: &str| (Some(error.into()), Some(details.into()));
        for (value, expected) in [
            (
                r#"outproxy; error=http_request_denied; details="no rule lists `a;b`""#,
                both("http_request_denied", "no rule lists `a;b`"),
            ),
            (
                r#"p;error=dns_error;rcode="NXDOMAIN";details="say \"x\" \\, y", q;error=other"#,
                both("dns_error", r#"say "x" \, y"#),
            ),
            ("p; error=x", (Some("x".into()), None)),
            ("p; received-status=200", (None, None)),
            (r#"p; error=x; details="unfinished"#, both("x", "unfinished")),
            ("", (None, None)),
            (",", (None, None)),
        ] {
            assert_eq!(status(value), expected, "{value}");
        }
        assert_eq!(ProxyStatus::of_head(b"HTTP/1.1 200 OK\r\n\r\n"), ProxyStatus::default());
        assert_eq!(ProxyStatus::of_head(b"\x16\x03\x01"), ProxyStatus::default());
    }
}
