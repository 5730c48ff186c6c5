//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::bytes::Bytes;
use protocol::key::{KeyKind, Usage};
use protocol::label::KeyLabel;
use tunnel::documents::{Body, Chapter, Document, Page, help};
use tunnel::endpoint::Endpoint;

/// Asks the application in a Nitro Enclave to create and use keys in CloudHSM.
///
/// The keys live in the HSM and never leave it. What crosses to the enclave is a request: which
/// key, and what to do with it. The enclave logs in to the HSM with a password that it fetches
/// from Secrets Manager, for which it uses the credentials of this machine's IAM role; host-client
/// reads them from the instance metadata service and sends them along.
#[derive(Debug, Parser)]
#[command(name = "host-client", version, after_help = HINT, after_long_help = help(PAGE.chapters))]
#[command(subcommand_value_name = "ACTION", subcommand_help_heading = "Actions")]
pub struct Cli {
    /// How to ask.
    #[command(flatten)]
    pub options: Options,
    /// What to ask.
    #[command(subcommand)]
    pub command: Command,
}

/// How to ask.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options for all actions")]
pub struct Options {
    /// Where enclave-app listens: `vsock:<cid>:<port>`, `tcp:<host>:<port>` or `unix:<path>`
    ///
    /// `nitro-cli describe-enclaves` shows the CID of each enclave.
    #[arg(long, global = true, value_name = "ENDPOINT", default_value = "vsock:16:5000")]
    pub endpoint: Endpoint,
    /// How long to wait for the answer
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Keep trying to connect for so long, such as after the start of an enclave
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub wait: Option<Duration>,
    /// Where the AWS credentials come from that the enclave fetches the HSM's password with
    ///
    /// `echo` and `describe` need none and send none.
    #[arg(long, global = true, value_name = "SOURCE", default_value = "imds")]
    pub credentials: Source,
    /// The AWS region of the secret, where the configuration of enclave-app names none
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The secret with the HSM's password: its name or its ARN. Goes with --region
    #[arg(long, global = true, value_name = "ID")]
    pub secret_id: Option<String>,
    /// Print the answer as it came: one JSON object on standard output, also where it is an error
    #[arg(long, global = true)]
    pub json: bool,
    /// Speak to an enclave of the Java sample application that this suite replaces
    ///
    /// It knows only `create-key` with keys of the kind aes-256, `get-key`, `delete-key` and
    /// `echo`.
    #[arg(long, global = true)]
    pub compat: bool,
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Source {
    /// The role of this EC2 instance, from its metadata service (IMDSv2)
    Imds,
    /// Nowhere: the enclave has its own
    None,
    /// Wherever the AWS SDKs look: environment, profile, container, metadata service
    Sdk,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the enclave does.
    #[command(flatten)]
    Act(Act),
    /// What describes this command itself.
    #[command(flatten)]
    Document(Document),
}

/// What the enclave can be asked.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Create a key in the HSM, unless it is there already
    ///
    /// A key with the same label, kind and usage counts as the same key; one with the same label
    /// and another kind or usage is an error. The key cannot be extracted from the HSM.
    CreateKey {
        /// What the key is to be called; at most 127 bytes
        #[arg(long)]
        label: KeyLabel,
        /// What the key is to be
        #[arg(long, default_value = "aes-256")]
        kind: Kind,
        /// What the key may be used for [default: encrypt,decrypt for AES, sign,verify for others]
        #[arg(long, value_name = "USE,...", value_delimiter = ',')]
        usage: Vec<Use>,
    },
    /// Decrypt what `encrypt` has made
    ///
    /// Reads base64 and writes the very bytes that were encrypted.
    Decrypt {
        /// The key
        #[arg(long)]
        label: KeyLabel,
        /// What is authenticated beside it.
        #[command(flatten)]
        aad: Aad,
        /// Where it is read from.
        #[command(flatten)]
        input: Input,
        /// The input is not base64 but raw bytes
        #[arg(long)]
        raw: bool,
        /// Write the plaintext into this file, which only its owner can read [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Destroy a key. There is no way back
    DeleteKey {
        /// The key
        #[arg(long)]
        label: KeyLabel,
    },
    /// Show the version of enclave-app, its HSM, its secret and what the enclave is measured as
    Describe {
        /// Write an attestation document (COSE_Sign1) of the enclave into this file
        #[arg(long, value_name = "FILE")]
        attestation: Option<PathBuf>,
        /// What the document is to contain, so that it is fresh; at most 512 bytes in hex digits
        #[arg(long, value_name = "HEX", value_parser = hex, requires = "attestation")]
        nonce: Option<Bytes>,
    },
    /// Say a message again, to see that the enclave is there
    Echo {
        /// The message
        message: String,
    },
    /// Encrypt with an AES key (AES-GCM)
    ///
    /// Reads bytes, at most about 48,000, and writes base64 of the nonce, the ciphertext and the
    /// tag. For more than that, encrypt a key of your own, and with that the data.
    Encrypt {
        /// The key
        #[arg(long)]
        label: KeyLabel,
        /// What is authenticated beside it.
        #[command(flatten)]
        aad: Aad,
        /// Where it is read from.
        #[command(flatten)]
        input: Input,
        /// Where it goes.
        #[command(flatten)]
        output: Output,
    },
    /// Show what a key is and may be used for
    GetKey {
        /// The key
        #[arg(long)]
        label: KeyLabel,
    },
    /// Show all keys
    ListKeys,
    /// Print random bytes of the HSM, in hex digits
    Random {
        /// How many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        bytes: u16,
        /// Where it goes.
        #[command(flatten)]
        output: Output,
    },
    /// Sign with an HMAC or EC key
    ///
    /// Reads the message and writes base64 of the signature: 32 bytes of HMAC-SHA-256, or the two
    /// numbers of ECDSA over SHA-256 with 32 bytes each.
    Sign {
        /// The key
        #[arg(long)]
        label: KeyLabel,
        /// Where it is read from.
        #[command(flatten)]
        input: Input,
        /// Where it goes.
        #[command(flatten)]
        output: Output,
    },
    /// Say whether a signature is one of a message; the exit status is 1 if not
    Verify {
        /// The key
        #[arg(long)]
        label: KeyLabel,
        /// What `sign` has written
        #[arg(long, value_name = "BASE64", value_parser = base64)]
        signature: Bytes,
        /// Where it is read from.
        #[command(flatten)]
        input: Input,
    },
}

impl Act {
    /// Whether the enclave must log in to the HSM for it, and so needs credentials.
    #[must_use]
    pub const fn needs_hsm(&self) -> bool {
        !matches!(self, Self::Describe { .. } | Self::Echo { .. })
    }

    /// Whether it is said how the bytes of the answer are to be written.
    #[must_use]
    pub const fn shapes_output(&self) -> bool {
        match self {
            Self::Decrypt { out, .. } => out.is_some(),
            Self::Encrypt { output, .. }
            | Self::Random { output, .. }
            | Self::Sign { output, .. } => output.out.is_some() || output.raw,
            _ => false,
        }
    }
}

/// What is authenticated beside the ciphertext.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct Aad {
    /// What is authenticated but not encrypted; the same is needed to decrypt
    #[arg(long, value_name = "TEXT")]
    pub aad: Option<String>,
    /// As --aad, from a file
    #[arg(long, value_name = "FILE")]
    pub aad_file: Option<PathBuf>,
}

/// Where an action reads from.
#[derive(Args, Debug)]
pub struct Input {
    /// Read this file [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Where an action writes to, and how.
#[derive(Args, Debug)]
pub struct Output {
    /// Write into this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the raw bytes
    #[arg(long)]
    pub raw: bool,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug)]
pub struct Kind(pub KeyKind);

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        const KINDS: [Kind; KeyKind::ALL.len()] = [
            Kind(KeyKind::ALL[0]),
            Kind(KeyKind::ALL[1]),
            Kind(KeyKind::ALL[2]),
            Kind(KeyKind::ALL[3]),
            Kind(KeyKind::ALL[4]),
        ];
        &KINDS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            KeyKind::Aes128 => "AES with 128 bits",
            KeyKind::Aes192 => "AES with 192 bits",
            KeyKind::Aes256 => "AES with 256 bits",
            KeyKind::EcP256 => "A key pair on the curve P-256, for ECDSA signatures",
            KeyKind::Hmac256 => "A secret of 256 bits, for HMAC signatures with SHA-256",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

/// Something that a key may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Use {
    /// Decrypt
    Decrypt,
    /// Encrypt
    Encrypt,
    /// Sign
    Sign,
    /// Unwrap other keys
    Unwrap,
    /// Verify signatures
    Verify,
    /// Wrap other keys
    Wrap,
}

impl Use {
    /// All that is named; nothing if nothing is.
    #[must_use]
    pub fn all(uses: &[Self]) -> Option<Usage> {
        let has = |wanted| uses.contains(&wanted);
        (!uses.is_empty()).then(|| Usage {
            encrypt: has(Self::Encrypt),
            decrypt: has(Self::Decrypt),
            sign: has(Self::Sign),
            verify: has(Self::Verify),
            wrap: has(Self::Wrap),
            unwrap: has(Self::Unwrap),
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime_serde::re::humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be more than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write for example `500ms`, `30s` or `2m`")),
    }
}

fn hex(text: &str) -> Result<Bytes, String> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    match bytes {
        Some(bytes)
            if digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit) =>
        {
            if bytes.len() > 512 {
                return Err("it has more than 512 bytes".into());
            }
            Ok(bytes.into())
        }
        _ => Err("write two hex digits for each byte".into()),
    }
}

fn base64(text: &str) -> Result<Bytes, String> {
    STANDARD.decode(text.trim()).map(Bytes::from).map_err(|error| format!("not base64: {error}"))
}

const HINT: &str = "`host-client --help` explains more and shows examples; \
                    `host-client ACTION --help` explains an action.";

/// What is said beside the command line.
pub const PAGE: Page<'_> = Page {
    section: 1,
    chapters: &[
        Chapter { title: "Examples", body: Body::Lines(EXAMPLES) },
        Chapter {
            title: "Exit status",
            body: Body::Terms(&[
                ("0", "it was done; for `verify`: the signature is valid"),
                (
                    "1",
                    "the application refused, or failed; for `verify`: the signature is not valid",
                ),
                ("2", "the command line is not understood"),
                ("3", NO_ANSWER),
                ("4", "something on this machine is missing, such as credentials or a file"),
            ]),
        },
        Chapter { title: "Errors for scripts", body: Body::Text(JSON_ERRORS) },
    ],
    see_also: &[("enclave-app", 8), ("outproxy", 8), ("inproxy", 8)],
};

const NO_ANSWER: &str = "there is no answer: the enclave cannot be reached, takes too long, or \
                         what it says makes no sense; if the request was already sent, whether it \
                         was done is not known";

const EXAMPLES: &str = "\
Is the enclave there? (needs no credentials)
  host-client echo hello
  host-client describe

Create a key, and look at it:
  host-client create-key --label nitro-enclave-1
  host-client get-key --label nitro-enclave-1

Encrypt a file, and decrypt it again:
  host-client encrypt --label nitro-enclave-1 --in letter.txt --out letter.enc
  host-client decrypt --label nitro-enclave-1 --in letter.enc

Sign with a key pair, and verify:
  host-client create-key --label signer --kind ec-p256
  host-client sign --label signer --in letter.txt > letter.sig
  host-client verify --label signer --in letter.txt --signature \"$(cat letter.sig)\"

In a script, right after the start of an enclave with CID 18:
  host-client --endpoint vsock:18:5000 --wait 60s --json list-keys
";

const JSON_ERRORS: &str = "\
With --json, every error but that of the command line (2) is an object on
standard output, too: {\"id\",\"error\":{\"code\",\"message\",\"retryable\"}}.
The code is one of the application's (not-found, key-differs, hsm-unavailable,
...), or one of host-client's own: unreachable, no-answer, broken-answer (3),
credentials-unavailable, local-error, request-too-large (4). With --compat,
answers are in the form of the Java application.
";

#[cfg(test)]
mod tests;
