//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tunnel::documents::{Body, Chapter, Document, Page, help};

use crate::enclaves::EnclaveId;

/// Accepts vsock connections from Nitro Enclaves and relays them to the TCP services that the
/// configuration allows.
///
/// Without a command it serves, in the foreground, until it is told to stop.
#[derive(Debug, Parser)]
#[command(name = "outproxy", version, after_long_help = help(PAGE.chapters))]
pub struct Cli {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Only read the configuration; exit with 78 if it has mistakes.
    #[arg(long)]
    pub check: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at this machine and the service, then resolve and dial every host that is allowed, on
    /// every port, see which certificate it shows, and say what to do; exit with 1 if anything
    /// failed.
    Doctor {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// The authority that must have issued the certificate of whatever does not listen on port
        /// 443: for HSMs the customerCA.crt of their cluster.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// What describes this command itself.
    #[command(flatten)]
    Document(Document),
    /// Print a configuration that does what AWS's vsock-proxy or socat was told to.
    ///
    /// The allowlist of vsock-proxy is a file; what it listens on is in the units of systemd and the
    /// scripts that start it. Give all of them. Variables that a script does not set are looked up in
    /// the environment.
    Import {
        /// vsock-proxy.yaml, vsock-proxy.service, a script.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Ask a running outproxy for what enclaves have told: the log of their inproxy, and what their
    /// application writes.
    Logs {
        /// Only those of this enclave; `-` for clients that have no CID.
        #[arg(long, value_name = "CID", allow_hyphen_values = true)]
        cid: Option<EnclaveId>,
        /// Go on with what comes.
        #[arg(long, short)]
        follow: bool,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
        /// Only so many lines, the newest, of what is there already.
        #[arg(long, short = 'n', value_name = "NUMBER")]
        lines: Option<usize>,
    },
    /// Ask a running outproxy what it knows: connections, rules, the last errors.
    Status {
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

/// What is said beside the command line.
pub const PAGE: Page<'_> = Page {
    section: 8,
    chapters: &[
        Chapter {
            title: "Signals",
            body: Body::Terms(&[
                ("SIGHUP", "reads the configuration again; a file with mistakes changes nothing"),
                (
                    "SIGTERM",
                    "lets connections finish within `shutdown-grace`; a second one does not",
                ),
                ("SIGINT", "is the same as SIGTERM"),
            ]),
        },
        Chapter {
            title: "Exit status",
            body: Body::Terms(&[
                ("0", "it was done, or stopped by a signal"),
                ("1", "it failed while running, or found what is not as it should be"),
                ("2", "the command line is not understood"),
                ("78", "the configuration, or a file that was given, has mistakes"),
            ]),
        },
        Chapter {
            title: "Files",
            body: Body::Terms(&[
                ("/etc/outproxy/outproxy.toml", "the configuration; see outproxy.toml(5)"),
                ("/etc/resolv.conf", "name servers, where the configuration has none"),
                ("/dev/vsock", "tells this machine's own CID"),
            ]),
        },
        Chapter {
            title: "Examples",
            body: Body::Lines(
                "\
Is the configuration right, and can everything in it be reached?
  outproxy --check
  outproxy doctor

Replace AWS's vsock-proxy:
  outproxy import /etc/nitro_enclaves/vsock-proxy.yaml >outproxy.toml

After a change of the file:
  systemctl reload outproxy

Who is connected, and what went wrong lately?
  outproxy status

What does the enclave with CID 16 have to say?
  outproxy logs --cid 16 --follow
",
            ),
        },
    ],
    see_also: &[("outproxy.toml", 5), ("inproxy", 8), ("host-client", 1), ("vsock", 7)],
};

/// Where the configuration is, unless it is said.
pub const DEFAULT_CONFIG: &str = "/etc/outproxy/outproxy.toml";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }
}
