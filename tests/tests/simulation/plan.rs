//! What happens in one simulated day, chosen by a seed and by nothing else.

use fastrand::Rng;

/// Milliseconds since the day began.
pub(crate) type Ms = u64;

/// Everything that anybody does in a day.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) inproxy: Inproxy,
    /// What outproxy starts with.
    pub(crate) policy: Policy,
    /// What its operator does, in the order of time.
    pub(crate) operator: Vec<(Ms, Operation)>,
    /// What goes wrong around it, and when it is right again, in the order of time.
    pub(crate) troubles: Vec<(Ms, Trouble)>,
    pub(crate) streams: Vec<StreamPlan>,
    /// When somebody connects to outproxy and does not say what he wants.
    pub(crate) loiterers: Vec<Ms>,
}

/// The limits of inproxy. All times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Inproxy {
    pub(crate) await_answer: bool,
    pub(crate) connect: Ms,
    pub(crate) grace: Ms,
    pub(crate) half_close: Ms,
    pub(crate) header: Ms,
    pub(crate) idle: Option<Ms>,
    pub(crate) retry: Ms,
}

/// The configuration of outproxy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Which sites are allowed by their address.
    pub(crate) sites: [bool; SITES],
    /// Which names are allowed.
    pub(crate) names: [bool; NAMES],
    pub(crate) connect: Ms,
    pub(crate) grace: Ms,
    pub(crate) half_close: Ms,
    pub(crate) header: Ms,
    pub(crate) idle: Option<Ms>,
    pub(crate) most: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// A reload of a file with mistakes.
    BadFile,
    /// A reload of a file that asks for a listener that cannot be bound.
    BadListener,
    Reload(Policy),
    /// SIGTERM, perhaps a second one after so long, and a new process so long after the end of the
    /// old one.
    Restart {
        hurry: Option<Ms>,
        pause: Ms,
        policy: Policy,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    NameServer(NameServer),
    Site(usize, Site),
    Zone(usize, Zone),
}

/// How an upstream treats those who connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Site {
    /// It does not answer: its backlog is full.
    Black,
    Good,
    /// Nobody listens.
    Refusing,
    /// It accepts, and resets at once.
    Resetting,
}

/// How the name server treats questions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NameServer {
    Failing,
    Good,
    Silent,
    Slow(Ms),
}

/// What the name server knows of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Zone {
    /// Which sites have the name; [`TRAP`] is an address that nobody must be led to. Without any
    /// the name does not exist.
    pub(crate) sites: Vec<usize>,
    /// In seconds.
    pub(crate) ttl: u32,
}

#[derive(Debug)]
pub(crate) struct StreamPlan {
    pub(crate) at: Ms,
    pub(crate) to: To,
    pub(crate) client: Part,
    pub(crate) upstream: Part,
}

/// Where a client wants to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum To {
    /// By its name, of which outproxy finds the address.
    Name(usize),
    /// To [`RAW_SITE`], without a request.
    Raw,
    /// By its address.
    Site(usize),
}

/// What one end does.
#[derive(Debug)]
pub(crate) struct Part {
    /// Bytes to write, each so long after what was before.
    pub(crate) writes: Vec<(Ms, usize)>,
    /// What follows, after so long.
    pub(crate) finale: (Ms, Finale),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finale {
    /// Half-closes, and reads on.
    HalfClose,
    /// Half-closes once the other end has.
    Polite,
    Reset,
    /// Says nothing any more, whatever happens.
    Silent,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        // Where one is more than twice the other, an abort may look clean in a raw tunnel.
        let half_close = span(rng, 5 * SECOND, 5 * MINUTE);
        let policy = Policy::random(rng, half_close);
        let operator = operator(rng, half_close);
        let troubles = troubles(rng);
        let moments = operator.iter().map(|(at, _)| *at).chain(troubles.iter().map(|(at, _)| *at));
        let moments: Vec<_> = moments.collect();
        let mut streams: Vec<_> =
            (0..rng.usize(60..120)).map(|_| StreamPlan::random(rng, &moments)).collect();
        streams.sort_by_key(|stream| stream.at);
        let loiterers = (0..rng.usize(..3)).map(|_| moment(rng, &moments)).collect();
        let inproxy = Inproxy::random(rng, half_close);
        Self { seed, inproxy, policy, operator, troubles, streams, loiterers }
    }
}

impl Inproxy {
    fn random(rng: &mut Rng, half_close: Ms) -> Self {
        Self {
            await_answer: rng.u8(..3) == 0,
            connect: span(rng, SECOND, 10 * SECOND),
            grace: span(rng, SECOND, MINUTE),
            half_close: rng.u64(half_close..half_close * 2),
            header: span(rng, SECOND, 10 * SECOND),
            idle: idle(rng),
            retry: if rng.u8(..4) == 0 { 0 } else { span(rng, 100, 5 * SECOND) },
        }
    }
}

impl Policy {
    fn random(rng: &mut Rng, half_close: Ms) -> Self {
        Self {
            sites: std::array::from_fn(|_| rng.u8(..8) > 0),
            names: std::array::from_fn(|_| rng.u8(..8) > 0),
            connect: span(rng, SECOND, 10 * SECOND),
            grace: if rng.u8(..4) == 0 { 0 } else { span(rng, SECOND, MINUTE) },
            half_close: rng.u64(half_close..half_close * 2),
            header: span(rng, SECOND, 10 * SECOND),
            idle: idle(rng),
            most: if rng.u8(..8) == 0 { rng.usize(2..8) } else { 1000 },
        }
    }

    /// Whether a client may ask for it.
    pub(crate) fn allows(&self, to: To) -> bool {
        match to {
            To::Name(name) => self.names[name],
            To::Raw => self.sites[RAW_SITE],
            To::Site(site) => self.sites[site],
        }
    }
}

fn operator(rng: &mut Rng, half_close: Ms) -> Vec<(Ms, Operation)> {
    let mut operations: Vec<_> = (0..rng.usize(4..16))
        .map(|_| {
            let operation = match rng.u8(..12) {
                0 => Operation::BadFile,
                1 => Operation::BadListener,
                2..4 => Operation::Restart {
                    hurry: (rng.u8(..3) == 0).then(|| span(rng, 100, 30 * SECOND)),
                    pause: span(rng, 1, 8 * SECOND),
                    policy: Policy::random(rng, half_close),
                },
                _ => Operation::Reload(Policy::random(rng, half_close)),
            };
            (rng.u64(..DAY), operation)
        })
        .collect();
    operations.sort_by_key(|(at, _)| *at);
    operations
}

fn troubles(rng: &mut Rng) -> Vec<(Ms, Trouble)> {
    let mut troubles: Vec<_> =
        (0..NAMES).map(|name| (0, Trouble::Zone(name, Zone::random(rng)))).collect();
    for _ in 0..rng.usize(5..25) {
        let (at, until) = times(rng);
        match rng.u8(..3) {
            0 => {
                let site = rng.usize(..SITES);
                let kind = *pick(rng, &[Site::Black, Site::Refusing, Site::Resetting]);
                troubles.push((at, Trouble::Site(site, kind)));
                troubles.push((until, Trouble::Site(site, Site::Good)));
            }
            1 => {
                let slow = NameServer::Slow(span(rng, 10, 3 * SECOND));
                let kind = *pick(rng, &[NameServer::Failing, NameServer::Silent, slow]);
                troubles.push((at, Trouble::NameServer(kind)));
                troubles.push((until, Trouble::NameServer(NameServer::Good)));
            }
            _ => troubles.push((at, Trouble::Zone(rng.usize(..NAMES), Zone::random(rng)))),
        }
    }
    troubles.sort_by_key(|(at, _)| *at);
    troubles
}

/// When trouble begins and ends.
fn times(rng: &mut Rng) -> (Ms, Ms) {
    let at = rng.u64(..DAY);
    (at, at + span(rng, SECOND, 2 * HOUR))
}

impl Zone {
    fn random(rng: &mut Rng) -> Self {
        let mut sites: Vec<_> = (0..=TRAP).filter(|_| rng.u8(..4) == 0).collect();
        rng.shuffle(&mut sites);
        let ttl = *pick(rng, &[0, 1, 30, 300, 3600, 86_400]);
        Self { sites, ttl }
    }
}

impl StreamPlan {
    fn random(rng: &mut Rng, moments: &[Ms]) -> Self {
        let to = match rng.u8(..8) {
            0..2 => To::Raw,
            2..5 => To::Site(rng.usize(..RAW_SITE)),
            _ => To::Name(rng.usize(..NAMES)),
        };
        let client = Part::random(rng, true);
        Self { at: moment(rng, moments), to, client, upstream: Part::random(rng, false) }
    }
}

impl Part {
    fn random(rng: &mut Rng, is_client: bool) -> Self {
        let mut writes: Vec<_> = (0..rng.usize(..6)).map(|_| (pause(rng), size(rng))).collect();
        if is_client && rng.u8(..8) > 0 {
            writes.insert(0, (0, size(rng)));
        }
        let finale = match rng.u8(..10) {
            0..4 => Finale::HalfClose,
            4..7 => Finale::Polite,
            7..8 => Finale::Reset,
            _ => Finale::Silent,
        };
        Self { writes, finale: (pause(rng), finale) }
    }
}

fn pause(rng: &mut Rng) -> Ms {
    match rng.u8(..8) {
        0..2 => 0,
        2..5 => span(rng, 1, MINUTE),
        _ => span(rng, 10, 4 * HOUR),
    }
}

/// In bytes; the first eight say whose they are.
fn size(rng: &mut Rng) -> usize {
    match rng.u8(..16) {
        0 => rng.usize(40_000..60_000),
        1..4 => rng.usize(8..5_000),
        _ => rng.usize(8..100),
    }
}

/// Some time of the day, often one close to which something happens.
fn moment(rng: &mut Rng, moments: &[Ms]) -> Ms {
    if rng.bool() {
        return rng.u64(..DAY);
    }
    let around = *pick(rng, moments);
    (around + span(rng, 1, 10 * SECOND)).saturating_sub(rng.u64(..3) * SECOND).min(DAY - SECOND)
}

fn idle(rng: &mut Rng) -> Option<Ms> {
    (rng.u8(..3) > 0).then(|| span(rng, MINUTE, 3 * HOUR))
}

/// A time between two, short ones as often as long ones.
fn span(rng: &mut Rng, shortest: Ms, longest: Ms) -> Ms {
    let mut longer = longest;
    while longer / 2 > shortest && rng.bool() {
        longer /= 2;
    }
    rng.u64(shortest..=longer)
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

pub(crate) const SECOND: Ms = 1000;
const MINUTE: Ms = 60 * SECOND;
pub(crate) const HOUR: Ms = 60 * MINUTE;
pub(crate) const DAY: Ms = 24 * HOUR;

pub(crate) const NAMES: usize = 3;
pub(crate) const SITES: usize = 4;
/// The only one that a raw listener leads to.
pub(crate) const RAW_SITE: usize = 3;
/// The number of the address that no rule lists.
pub(crate) const TRAP: usize = SITES;
