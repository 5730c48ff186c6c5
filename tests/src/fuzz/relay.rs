//! The relay between two ends that do what bytes say.

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "../../../tunnel/tests/scripts/perform.rs"]
mod perform;

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Builder;

use super::cursor::Cursor;
use crate::scripts::script::{Choices, Script};
use crate::scripts::{bytes, end, script, verdict};

/// The promises of the relay hold, of its random scripts as of those that somebody looked for.
pub fn relay(data: &[u8]) {
    // As the runtime of Rust ignores it; but in a fuzzer `main` is libFuzzer's.
    SigSet::from(Signal::SIGPIPE).thread_block().expect("a mask");
    let mut choices = Cursor::new(data);
    let kinds = choices.byte();
    let script = Script::choose(kinds.into(), &mut choices);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Err(broken) = runtime.block_on(perform::perform(script)) {
        panic!("{broken}");
    }
}

impl Choices for Cursor<'_> {
    fn below(&mut self, end: usize) -> usize {
        Cursor::below(self, end)
    }
}
