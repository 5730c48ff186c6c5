//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tunnel::documents::{Body, Chapter, Document, Page, help};

/// Serves requests for keys in HSMs, in a Nitro Enclave: fetches the crypto user's password from
/// Secrets Manager, logs in through PKCS#11, and answers host-client.
#[derive(Debug, Parser)]
#[command(name = "enclave-app", version, after_long_help = help(PAGE.chapters))]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/enclave-app.toml")]
    pub config: PathBuf,
    /// Only read the configuration, and the CA bundle that it names; exit with 78 if either has
    /// mistakes.
    #[arg(long)]
    pub check: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What describes this command itself.
    #[command(flatten)]
    Document(Document),
    /// What the application starts itself as, to load the PKCS#11 module.
    #[command(hide = true)]
    Worker,
}

/// What is said beside the command line.
pub const PAGE: Page<'_> = Page {
    section: 8,
    chapters: &[
        Chapter {
            title: "Signals",
            body: Body::Terms(&[
                ("SIGTERM", "lets requests finish within `shutdown-grace`; a second one does not"),
                ("SIGINT", "is the same as SIGTERM"),
            ]),
        },
        Chapter {
            title: "Exit status",
            body: Body::Terms(&[
                ("0", "it was done, or stopped by a signal"),
                ("1", "it failed while running"),
                ("2", "the command line is not understood"),
                ("78", "the configuration, or the environment, has mistakes"),
            ]),
        },
        Chapter {
            title: "Environment",
            body: Body::Terms(&[
                (
                    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
                    "with `credentials = \"environment\"`",
                ),
                ("LOG_SENSITIVE_BODIES", "would have the AWS SDK log secrets, and so is refused"),
            ]),
        },
        Chapter {
            title: "Files",
            body: Body::Terms(&[
                ("/etc/enclave-app.toml", "the configuration; see enclave-app.toml(5)"),
                ("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so", "the PKCS#11 module, by default"),
                ("/dev/nsm", "signs attestation documents"),
            ]),
        },
        Chapter {
            title: "Examples",
            body: Body::Lines(
                "\
Is the configuration right?
  enclave-app --check

The last line of an image:
  ENTRYPOINT [\"/usr/bin/inproxy\", \"--\", \"/usr/bin/enclave-app\"]
",
            ),
        },
    ],
    see_also: &[("enclave-app.toml", 5), ("inproxy", 8), ("host-client", 1)],
};

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }
}
