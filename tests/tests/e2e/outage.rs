//! Whatever is lost, service returns, and no acknowledged key is missing or there twice.

use std::collections::HashMap;
use std::env;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tests::application::Application;
use tests::load::{Load, under_load};
use tests::patience::is_emulated;
use tests::vpc::Vpc;
use tests::world::World;

use crate::say;

crate::scenarios![
    an_hsm_that_refuses_is_survived,
    an_hsm_that_is_silent_is_survived,
    an_hsm_that_is_cut_in_mid_stream_is_survived,
    every_process_may_be_killed_at_any_time,
];

fn an_hsm_that_refuses_is_survived(world: &World) {
    survive(
        world,
        |vpc, hsm| vpc.hsms[hsm].stop(),
        |vpc, hsm| {
            let Vpc { cluster, hsms, .. } = vpc;
            cluster.restart(&mut hsms[hsm]);
        },
    );
}

fn an_hsm_that_is_silent_is_survived(world: &World) {
    survive(world, |vpc, hsm| vpc.hsms[hsm].freeze(), |vpc, hsm| vpc.hsms[hsm].thaw());
}

/// Loses the HSM that is in use, then the other one as well, and has both come back.
fn survive(world: &World, lose: fn(&mut Vpc, usize), restore: fn(&mut Vpc, usize)) {
    let mut vpc = Vpc::start(world);
    let _application = Application::start(world, &vpc);
    let ledger = under_load(&world.leg, |load| {
        load.await_service();
        let start = Instant::now();
        lose(&mut vpc, 0);
        load.await_service();
        let seconds = within(start, ANSWER + SERVICE, "the other HSM serves");
        say(&format!("served by the other HSM after {seconds:.1} s"));

        let start = Instant::now();
        lose(&mut vpc, 1);
        load.await_failure();
        // It may be that of a request which began when the one before was answered.
        within(start, ANSWER * 2, "an error is told");

        restore(&mut vpc, 0);
        restore(&mut vpc, 1);
        let start = Instant::now();
        load.await_service();
        let seconds = within(start, SERVICE, "both HSMs are back");
        say(&format!("served {seconds:.1} s after both were back"));
    });
    ledger.check(&vpc.cluster);
    ledger.assert_answered_within(ANSWER);
}

fn an_hsm_that_is_cut_in_mid_stream_is_survived(world: &World) {
    let vpc = Vpc::start(world);
    let _application = Application::start(world, &vpc);
    let ledger = under_load(&world.leg, |load| {
        for _ in 0..if is_emulated() { 2 } else { 10 } {
            load.await_service();
            load.pause(Duration::from_millis(fastrand::u64(..50)));
            let start = Instant::now();
            vpc.hsms[0].cut();
            load.await_service();
            within(start, SERVICE, "a new connection serves");
        }
    });
    ledger.check(&vpc.cluster);
    ledger.assert_answered_within(ANSWER);
}

/// `KILLS` is how often, `KILL_SEED` which ones and when.
fn every_process_may_be_killed_at_any_time(world: &World) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    say(&format!("KILL_SEED={seed}"));
    fastrand::seed(seed);
    let mut vpc = Vpc::start(world);
    let mut application = Application::start(world, &vpc);
    let mut recoveries: HashMap<&str, Vec<f64>> = HashMap::new();
    let ledger = under_load(&world.leg, |load| {
        let usual = if is_emulated() { 5 } else { 100 };
        for _ in 0..number("KILLS").unwrap_or(usual) {
            load.await_service();
            load.pause(Duration::from_millis(fastrand::u64(..100)));
            let start = Instant::now();
            let (victim, kill) = *fastrand::choice(VICTIMS).unwrap();
            kill(&mut application, &mut vpc, load);
            load.await_service();
            // Others may be at work on this machine: what counts is the median.
            let seconds = within(start, RECOVERY * 3, victim);
            recoveries.entry(victim).or_default().push(seconds);
        }
    });
    for (victim, seconds) in &mut recoveries {
        seconds.sort_by(f64::total_cmp);
        let (count, median, most) =
            (seconds.len(), seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
        let what = format!(
            "{victim} was killed {count} times; the median recovery took {median:.2} s, the longest {most:.2} s"
        );
        say(&what);
        assert!(is_emulated() || median <= RECOVERY.as_secs_f64(), "{what}");
    }
    say(&ledger.to_string());
    ledger.check(&vpc.cluster);
}

type Kill = fn(&mut Application<'_>, &mut Vpc, &Load<'_>);

/// What can be killed, and who then does what.
const VICTIMS: &[(&str, Kill)] = &[
    ("inproxy", |application, _, _| {
        application.enclave.signal(Signal::SIGKILL);
        application.restart_enclave();
    }),
    ("outproxy", |application, vpc, _| {
        application.outproxy.kill();
        application.restart_outproxy(vpc);
    }),
    ("enclave-app", |application, _, _| {
        kill(application.enclave.app(), Signal::SIGKILL).unwrap();
        application.restart_enclave();
    }),
    ("the worker", |application, _, load| {
        // enclave-app itself starts another.
        let deadline = Instant::now() + tests::patience::patience();
        while application
            .enclave
            .worker()
            .is_none_or(|worker| kill(worker, Signal::SIGKILL).is_err())
        {
            assert!(Instant::now() < deadline, "there is no worker");
            load.pause(Duration::from_millis(1));
        }
    }),
    ("an HSM", |_, vpc, _| {
        vpc.hsms[0].kill_server();
        let Vpc { cluster, hsms, .. } = vpc;
        cluster.restart_server(&mut hsms[0]);
    }),
    ("the link", |application, vpc, _| {
        application.link.kill();
        application.restart_link(vpc);
    }),
];

/// Asserts that no more time has passed since `start`, and says how much has, in seconds.
fn within(start: Instant, limit: Duration, what: &str) -> f64 {
    let taken = start.elapsed();
    // Emulated, everything takes longer.
    let factor = if is_emulated() { 60 } else { 1 };
    assert!(taken <= limit * factor, "{what}: after {taken:?}, and {limit:?} is promised");
    taken.as_secs_f64()
}

/// The longest time that a client is kept waiting for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// From a process killed to the next key made.
const RECOVERY: Duration = Duration::from_secs(1);
/// From the link to an HSM being there to the next key made.
const SERVICE: Duration = Duration::from_secs(5);
