//! What the two ends of a tunnel do, at random.

use fastrand::Rng;

/// What happens to one tunnel.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) client: Part,
    pub(crate) upstream: Part,
}

/// What one end does.
#[derive(Debug)]
pub(crate) struct Part {
    /// How it writes and closes, in this order.
    pub(crate) steps: Vec<Step>,
    /// The most that it reads at once, in bytes.
    pub(crate) chunk: usize,
    /// Whether it reads only while the other end cannot write, so that all buffers fill.
    pub(crate) lazy: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Pauses until it has read to the end.
    AwaitEnd,
    /// Pauses until the other end has read all that was written.
    AwaitRead,
    Close,
    HalfClose,
    /// Over TCP an RST; over other sockets a close.
    Reset,
    Write(usize),
    /// Lets others go first.
    Yield(u8),
}

impl Script {
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // If each waited for the other's end, neither would get there.
        let client_waits = rng.bool();
        Self {
            seed,
            client: Part::random(&mut rng, client_waits),
            upstream: Part::random(&mut rng, !client_waits),
        }
    }
}

impl Part {
    fn random(rng: &mut Rng, may_wait: bool) -> Self {
        let mut steps = Vec::new();
        for _ in 0..rng.usize(..6) {
            steps.push(match rng.u8(..5) {
                0 => Step::AwaitRead,
                1 => Step::Yield(rng.u8(..20)),
                _ => Step::Write(size(rng)),
            });
        }
        if may_wait && rng.u8(..3) == 0 {
            steps.push(Step::AwaitEnd);
        }
        let abort = if rng.bool() { Step::Close } else { Step::Reset };
        match rng.u8(..10) {
            0..5 => steps.push(Step::HalfClose),
            5 => steps.extend([Step::HalfClose, Step::AwaitEnd, abort]),
            6 => steps.extend([Step::HalfClose, Step::AwaitRead, abort]),
            7 => steps.extend([Step::HalfClose, Step::Yield(rng.u8(..40)), abort]),
            _ => steps.push(abort),
        }
        Self { steps, chunk: 64 << rng.u8(..11), lazy: rng.u8(..4) == 0 }
    }
}

/// Mostly what an HSM's messages have, sometimes more than any buffer holds.
fn size(rng: &mut Rng) -> usize {
    match rng.u8(..10) {
        0 => rng.usize(1..400_000),
        1..4 => rng.usize(1..40_000),
        _ => rng.usize(1..600),
    }
}
