//! The application, and what the host is told of it.

use std::ffi::{OsStr, OsString};
use std::io;

use tunnel::records::Application as State;

use crate::output::{Output, Streams};
use crate::supervise::{self, Child, Signals, SpawnError};
use crate::telemetry::Telemetry;

/// A running application.
#[derive(Debug)]
pub(crate) struct Application<'a> {
    child: Child,
    output: Option<Output>,
    telemetry: Option<&'a Telemetry>,
}

impl<'a> Application<'a> {
    /// Runs a program with these arguments.
    pub(crate) fn start(
        signals: Signals,
        program: &OsStr,
        arguments: &[OsString],
        telemetry: Option<&'a Telemetry>,
    ) -> Result<Self, SpawnError> {
        let (output, streams) = telemetry.and_then(capture_or_warn).unzip();
        let prepare = |command: &mut _| {
            if let Some(streams) = streams {
                Streams::give_to(streams, command);
            }
        };
        let set_state = |state| {
            if let Some(telemetry) = telemetry {
                telemetry.set_application(state);
            }
        };
        let child = Child::spawn_with(signals, program, arguments, prepare)
            .inspect_err(|error| set_state(State::NotStarted { code: error.exit_code() }))?;
        set_state(State::Running { pid: child.id() });
        Ok(Self { child, output, telemetry })
    }

    /// Waits until it has ended, and everything that it wrote is read; returns what this process
    /// should exit with.
    pub(crate) async fn wait(self) -> io::Result<u8> {
        let code = self.child.wait().await?;
        if let Some(output) = self.output {
            output.finish().await;
        }
        if let Some(telemetry) = self.telemetry {
            telemetry.set_application(State::Exited { code });
        }
        Ok(code)
    }
}

/// Captures what the application will write, if the host is to be told of it.
fn capture_or_warn(telemetry: &Telemetry) -> Option<(Output, Streams)> {
    if !telemetry.captures() {
        return None;
    }
    if supervise::has_terminal_to_lend() {
        tracing::info!("the application has the terminal, so the host is not told what it writes");
        return None;
    }
    Output::capture(telemetry.outbox())
        .inspect_err(|error| {
            tracing::warn!(%error, "failed to capture what the application writes");
        })
        .ok()
}
