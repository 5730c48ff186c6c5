//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tunnel::documents::{Body, Chapter, Document, Page, help};

/// Makes the addresses of remote services local to a Nitro Enclave, and tunnels every connection
/// to them over vsock to outproxy on the parent instance.
///
/// With an application it runs that as soon as every listener is bound, forwards signals to it,
/// reaps orphans, and exits as it exits.
#[derive(Debug, Parser)]
#[command(name = "inproxy", version, after_long_help = help(PAGE.chapters))]
pub struct Cli {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Only read the configuration; exit with 78 if it has mistakes.
    #[arg(long)]
    pub check: bool,
    /// The application, and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub application: Vec<OsString>,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the enclave, its network, outproxy and every forward, and say what to do; exit with
    /// 1 if anything failed. Changes nothing.
    Doctor {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Try this address, too, which lies in a block of a forward; may be repeated.
        #[arg(long, value_name = "IP")]
        address: Vec<IpAddr>,
    },
    /// What describes this command itself.
    #[command(flatten)]
    Document(Document),
    /// Print a configuration that does what a script did with socat, ifconfig and /etc/hosts.
    ///
    /// Comments say what each line was understood as, and what is better. Variables that the script
    /// does not set are looked up in the environment.
    Import {
        /// The script.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// What is said beside the command line.
pub const PAGE: Page<'_> = Page {
    section: 8,
    chapters: &[
        Chapter {
            title: "Signals",
            body: Body::Text(
                "\
With an application, signals go to it; inproxy ends when it does. Without one, SIGTERM and SIGINT
let connections finish within `shutdown-grace`; a second one does not.
",
            ),
        },
        Chapter {
            title: "Exit status",
            body: Body::Terms(&[
                ("0", "it was done, or stopped by a signal"),
                ("1", "it failed while running, or found what is not as it should be"),
                ("2", "the command line is not understood"),
                ("78", "the configuration, or a file that was given, has mistakes"),
                ("*", "with an application, that of the application; 128 + n after signal n"),
            ]),
        },
        Chapter {
            title: "Files",
            body: Body::Terms(&[
                ("/etc/inproxy.toml", "the configuration; see inproxy.toml(5)"),
                ("/etc/hosts", "gets a line for each `host` of the configuration"),
            ]),
        },
        Chapter {
            title: "Examples",
            body: Body::Lines(
                "\
Is the configuration right?
  inproxy --check

Is everything there, and does outproxy let this HSM be reached?
  inproxy doctor --address 10.0.10.103

Replace a script:
  inproxy import run_sample.sh >inproxy.toml

The last line of an image:
  ENTRYPOINT [\"/usr/bin/inproxy\", \"--\", \"/usr/bin/your-application\"]
",
            ),
        },
    ],
    see_also: &[("inproxy.toml", 5), ("outproxy", 8), ("enclave-app", 8), ("vsock", 7)],
};

/// Where the configuration is, unless it is said.
pub const DEFAULT_CONFIG: &str = "/etc/inproxy.toml";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_the_application() {
        let cli = Cli::parse_from(["inproxy", "--config", "a", "--", "man", "--json"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.application, ["man", "--json"]);
    }
}
