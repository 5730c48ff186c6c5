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
    Yield(usize),
}

impl Script {
    pub(crate) fn random(seed: u64) -> Self {
        Self::choose(seed, &mut Rng::with_seed(seed))
    }

    /// Two bits of the `seed` say which sockets the ends have.
    pub(crate) fn choose(seed: u64, choices: &mut impl Choices) -> Self {
        // If each waited for the other's end, neither would get there.
        let client_waits = choices.below(2) == 0;
        Self {
            seed,
            client: Part::choose(choices, client_waits),
            upstream: Part::choose(choices, !client_waits),
        }
    }
}

/// Whoever decides what happens.
pub(crate) trait Choices {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize;
}

impl Choices for Rng {
    fn below(&mut self, end: usize) -> usize {
        self.usize(..end)
    }
}

impl Part {
    fn choose(choices: &mut impl Choices, may_wait: bool) -> Self {
        let mut steps = Vec::new();
        for _ in 0..choices.below(6) {
            steps.push(match choices.below(5) {
                0 => Step::AwaitRead,
                1 => Step::Yield(choices.below(20)),
                _ => Step::Write(size(choices)),
            });
        }
        if may_wait && choices.below(3) == 0 {
            steps.push(Step::AwaitEnd);
        }
        let abort = if choices.below(2) == 0 { Step::Close } else { Step::Reset };
        match choices.below(10) {
            0..5 => steps.push(Step::HalfClose),
            5 => steps.extend([Step::HalfClose, Step::AwaitEnd, abort]),
            6 => steps.extend([Step::HalfClose, Step::AwaitRead, abort]),
            7 => steps.extend([Step::HalfClose, Step::Yield(choices.below(40)), abort]),
            _ => steps.push(abort),
        }
        Self { steps, chunk: 64 << choices.below(11), lazy: choices.below(4) == 0 }
    }
}

/// Mostly what an HSM's messages have, sometimes more than any buffer holds.
fn size(choices: &mut impl Choices) -> usize {
    let most = match choices.below(10) {
        0 => 400_000,
        1..4 => 40_000,
        _ => 600,
    };
    1 + choices.below(most - 1)
}
