//! Results for people, and for files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::action::{Description, HsmDescription, Listed, Outcome};
use protocol::key::{Key, KeyKind, Usage};
use zeroize::Zeroizing;

use crate::cli::{Act, Output};
use crate::ending::Verdict;
use crate::files::{self, FileError};
use crate::text::{lines, printable, table};

/// Whether an outcome is what was wanted.
#[must_use]
pub fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Verify(verified) if !verified.valid => Verdict::Refused,
        _ => Verdict::Done,
    }
}

/// Writes the file that was asked for beside the answer.
///
/// # Errors
///
/// [`FileError`].
pub fn keep(act: &Act, outcome: &Outcome) -> Result<(), FileError> {
    let (Act::Describe { attestation: Some(path), .. }, Outcome::Describe(description)) =
        (act, outcome)
    else {
        return Ok(());
    };
    let document = description.nsm.as_ref().and_then(|nsm| nsm.attestation.as_ref());
    document.map_or(Ok(()), |document| files::write(Some(path), document.as_slice()))
}

/// Prints an outcome, or writes it into the file that was asked for.
///
/// # Errors
///
/// [`FileError`].
pub fn print(act: &Act, outcome: &Outcome, duration_ms: u64) -> Result<(), FileError> {
    let text = match (act, outcome) {
        (Act::Decrypt { out, .. }, Outcome::Decrypt(decrypted)) => {
            return files::write(out.as_deref(), decrypted.plaintext.as_slice());
        }
        (Act::Encrypt { output, .. }, Outcome::Encrypt(encrypted)) => {
            let ciphertext = encrypted.ciphertext.as_slice();
            return write(output, ciphertext, |bytes| STANDARD.encode(bytes));
        }
        (Act::Random { output, .. }, Outcome::Random(random)) => {
            return write(output, random.bytes.as_slice(), hex);
        }
        (Act::Sign { output, .. }, Outcome::Sign(signed)) => {
            return write(output, signed.signature.as_slice(), |bytes| STANDARD.encode(bytes));
        }
        (_, Outcome::CreateKey(made)) => {
            let (label, kind) = (printable(&made.key.label), kind(made.key.kind));
            if made.created {
                format!("created key {label} ({kind}) in {duration_ms} ms\n")
            } else {
                format!("key {label} exists already ({kind})\n")
            }
        }
        (_, Outcome::DeleteKey(deleted)) => {
            format!("deleted key {}\n", printable(deleted.label.as_str()))
        }
        (_, Outcome::Describe(description)) => describe(description),
        (_, Outcome::Echo(echo)) => format!("{}\n", printable(&echo.message)),
        (_, Outcome::GetKey(key)) => one_key(key),
        (_, Outcome::ListKeys(listed)) => all_keys(listed),
        (_, Outcome::Verify(verified)) if verified.valid => "the signature is valid\n".into(),
        (_, Outcome::Verify(_)) => "the signature is not valid\n".into(),
        // Somebody's answer to another question; it has been refused before.
        _ => return Ok(()),
    };
    files::write(None, text.as_bytes())
}

fn write(
    output: &Output,
    bytes: &[u8],
    to_text: impl FnOnce(&[u8]) -> String,
) -> Result<(), FileError> {
    let path = output.out.as_deref();
    if output.raw {
        return files::write(path, bytes);
    }
    let text = Zeroizing::new(to_text(bytes) + "\n");
    files::write(path, text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe(description: &Description) -> String {
    let Description { version, uptime_seconds, hsm, secret, nsm } = description;
    let mut rows = vec![("enclave-app", printable(version)), ("uptime", uptime(*uptime_seconds))];
    match hsm {
        HsmDescription::Idle => rows.push(("HSM", "not used yet".into())),
        HsmDescription::Ready(token) => rows.extend([
            ("HSM", "ready".into()),
            ("  module", printable(&token.module)),
            ("  library", printable(&token.library)),
            ("  slot", token.slot.to_string()),
            ("  token", printable(&token.label)),
            ("  made by", printable(&format!("{} {}", token.manufacturer, token.model))),
            ("  serial", printable(&token.serial)),
            ("  firmware", printable(&token.firmware)),
        ]),
        HsmDescription::Unavailable { reason } => {
            rows.push(("HSM", format!("unavailable: {}", printable(reason))));
        }
    }
    match secret {
        Some(secret) => rows
            .extend([("secret", printable(&secret.id)), ("  version", printable(&secret.version))]),
        None => rows.push(("secret", "not fetched yet".into())),
    }
    let Some(nsm) = nsm else {
        rows.push(("NSM", "none: this is no enclave".into()));
        return lines(&rows);
    };
    rows.extend([("NSM", printable(&nsm.module)), ("  version", printable(&nsm.version))]);
    for pcr in &nsm.pcrs {
        let lock = if pcr.locked { "" } else { " (not locked)" };
        rows.push(("  PCR", format!("{} {}{lock}", pcr.index, printable(&pcr.value))));
    }
    lines(&rows)
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h {minutes} min"),
    }
}

fn one_key(key: &Key) -> String {
    lines(&[
        ("label", printable(&key.label)),
        ("kind", kind(key.kind).into()),
        ("id", printable(&key.id)),
        ("usage", usage(key.usage)),
        ("extractable", yes_or_no(key.extractable).into()),
        ("sensitive", yes_or_no(key.sensitive).into()),
    ])
}

fn all_keys(listed: &Listed) -> String {
    if listed.keys.is_empty() {
        return "no keys\n".into();
    }
    let head = ["LABEL", "KIND", "USAGE", "EXTRACTABLE", "ID"].map(str::to_owned);
    let rows = listed.keys.iter().map(|key| {
        [
            printable(&key.label),
            kind(key.kind).into(),
            usage(key.usage),
            yes_or_no(key.extractable).into(),
            printable(&key.id),
        ]
    });
    let mut text = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    if listed.truncated {
        text.push_str("... and more, which do not fit in one answer\n");
    }
    text
}

fn kind(kind: Option<KeyKind>) -> &'static str {
    kind.map_or("other", KeyKind::name)
}

fn usage(usage: Usage) -> String {
    let all = [
        (usage.encrypt, "encrypt"),
        (usage.decrypt, "decrypt"),
        (usage.sign, "sign"),
        (usage.verify, "verify"),
        (usage.wrap, "wrap"),
        (usage.unwrap, "unwrap"),
    ];
    let allowed: Vec<_> = all.iter().filter(|(may, _)| *may).map(|(_, name)| *name).collect();
    if allowed.is_empty() { "none".into() } else { allowed.join(",") }
}

const fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
