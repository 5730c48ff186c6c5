use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::Config;
use crate::policy::Policy;
use crate::refusal::Refusal;

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn who_is_up_is_asked_now_and_then_and_never_reset() {
    let listener = listen(0).await;
    let policy = policy(&[&listener]);
    let _prober = probing(&policy);
    let mut pauses = Vec::new();
    let mut last = Instant::now();
    for _ in 0..10 {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        pauses.push(last.elapsed());
        last = Instant::now();
    }
    assert!((FIRST_PROBE..FIRST_PROBE.mul_f64(2.1)).contains(&pauses[0]), "{pauses:?}");
    let expected = INTERVAL.mul_f64(0.89)..INTERVAL.mul_f64(1.11);
    assert!(pauses[1..].iter().all(|pause| expected.contains(pause)), "{pauses:?}");
    assert!(pauses[1..].windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
    assert_eq!(policy.health.count(), Count { up: 1, ..Count::default() });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gets_through_saves_a_probe() {
    let listener = listen(0).await;
    let policy = policy(&[&listener]);
    let _prober = probing(&policy);
    listener.accept().await.unwrap();
    for _ in 0..20 {
        sleep(INTERVAL / 2).await;
        let (stream, _) = policy.reach(None, &destination(&listener)).await.unwrap();
        let (client, _) = listener.accept().await.unwrap();
        assert_eq!(Some(client.peer_addr().unwrap()), stream.local_address());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_who_is_down() {
    let (hole, up) = (BlackHole::new(), listen(0).await);
    let policy = policy(&[&hole.listener, &up]);
    let _prober = probing(&policy);
    while policy.health.count() != (Count { down: 1, up: 1, unknown: 0 }) {
        sleep(Duration::from_millis(10)).await;
    }

    let started = Instant::now();
    let error = policy.reach(None, &destination(&hole.listener)).await.unwrap_err();
    policy.reach(None, &destination(&up)).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(10), "{:?}", started.elapsed());
    assert_eq!(error.word(), "down");
    assert_eq!(error.status().0, 503);
    let told = error.to_string();
    assert!(told.contains("` is down, since 0s: ") && told.contains("within 5s"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_clients_one_tries_who_is_down() {
    let hole = BlackHole::new();
    let policy = policy(&[&hole.listener]);
    let destination = destination(&hole.listener);
    // The first ones do not know, and wait.
    let clients = || join_all((0..1000).map(|_| policy.reach(None, &destination)));
    let started = Instant::now();
    assert!(clients().await.iter().all(|result| matches!(result, Err(Refusal::Dial(_)))));
    assert!(started.elapsed() < LIMIT + Duration::from_millis(100));

    let mut trials = 0;
    let mut backoff = FIRST_BACKOFF;
    while trials < 10 {
        // Nobody can try before.
        let at_once = clients().await;
        assert!(at_once.iter().all(is_known), "{at_once:?}");
        sleep(backoff + Duration::from_millis(1)).await;
        let started = Instant::now();
        let results = clients().await;
        assert!(started.elapsed() >= LIMIT);
        assert_eq!(results.iter().filter(|result| !is_known(result)).count(), 1);
        assert!(results.iter().all(|result| matches!(result, Err(Refusal::Down(_)))));
        trials += 1;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
    assert_eq!(backoff, LONGEST_BACKOFF);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_succeeds_opens_the_way_for_all() {
    let mut hole = BlackHole::new();
    let policy = policy(&[&hole.listener]);
    let destination = destination(&hole.listener);
    policy.reach(None, &destination).await.unwrap_err();
    hole.open().await;
    assert!(is_known(&policy.reach(None, &destination).await));
    sleep(FIRST_BACKOFF).await;
    let opened = join_all((0..100).map(|_| policy.reach(None, &destination))).await;
    // The first of them is the trial. On one machine nobody comes before it has succeeded.
    assert!(opened.iter().all(Result::is_ok));
    assert_eq!(policy.health.count(), Count { up: 1, ..Count::default() });
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_is_the_next_clients() {
    let hole = BlackHole::new();
    let policy = policy(&[&hole.listener]);
    let destination = destination(&hole.listener);
    policy.reach(None, &destination).await.unwrap_err();
    sleep(FIRST_BACKOFF).await;
    timeout(LIMIT / 2, policy.reach(None, &destination)).await.unwrap_err();
    assert!(!is_known(&policy.reach(None, &destination).await));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_found_without_clients() {
    let (mut hole, refusing) = (BlackHole::new(), listen(0).await);
    let port = refusing.local_addr().unwrap().port();
    let policy = policy(&[&hole.listener, &refusing]);
    drop(refusing);
    let _prober = probing(&policy);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(policy.health.count(), Count { down: 2, ..Count::default() });
    let _back = listen(port).await;
    hole.open().await;
    sleep(LONGEST_BACKOFF.mul_f64(1.25) + LIMIT).await;
    assert_eq!(policy.health.count(), Count { up: 2, ..Count::default() });
}

#[tokio::test(start_paused = true)]
async fn who_refuses_is_tried_more_often_for_clients() {
    let refusing = listen(0).await;
    let port = refusing.local_addr().unwrap().port();
    let policy = policy(&[&refusing]);
    let destination = destination(&refusing);
    drop(refusing);
    let _prober = probing(&policy);
    sleep(Duration::from_secs(3600)).await;
    policy.reach(None, &destination).await.unwrap_err();
    let _back = listen(port).await;
    assert!(is_known(&policy.reach(None, &destination).await));
    sleep(PAUSE_AFTER_REFUSAL).await;
    policy.reach(None, &destination).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_are_made_at_once_than_may_be() {
    let (holes, up) = ([(); MOST_AT_ONCE].map(|()| BlackHole::new()), listen(0).await);
    let mut listeners: Vec<_> = holes.iter().map(|hole| &hole.listener).collect();
    let policy_of_holes = policy(&listeners);
    listeners.push(&up);
    let policy = policy_of_holes.reloaded(&config(&listeners));
    let mut prober = Prober::default();
    let limit = FIRST_PROBE * 20;
    prober.follow(&policy_of_holes.health, limit);
    sleep(FIRST_PROBE * 3).await;
    // Their probes are on their way.
    prober.follow(&policy.health, limit);
    sleep(FIRST_PROBE * 10).await;
    let before = Count { unknown: MOST_AT_ONCE + 1, ..Count::default() };
    assert_eq!(policy.health.count(), before);
    sleep(FIRST_PROBE * 10).await;
    assert_eq!(policy.health.count(), Count { up: 1, down: MOST_AT_ONCE, unknown: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_known_and_stops_what_is_not_wanted() {
    let (stays, goes) = (listen(0).await, listen(0).await);
    let before = policy(&[&stays, &goes]);
    let mut prober = probing(&before);
    sleep(FIRST_PROBE * 3).await;
    let after = before.reloaded(&config(&[&stays]));
    prober.follow(&after.health, LIMIT);
    assert_eq!(after.health.count(), Count { up: 1, ..Count::default() });
    for listener in [&stays, &goes] {
        // The first one was before the reload.
        listener.accept().await.unwrap();
    }
    sleep(INTERVAL * 2).await;
    stays.accept().await.unwrap();
    assert!(timeout(INTERVAL * 2, goes.accept()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_how_long_a_probe_may_take() {
    let hole = BlackHole::new();
    let policy = policy(&[&hole.listener]);
    let mut prober = probing(&policy);
    sleep(LIMIT * 2).await;
    prober.follow(&policy.health, Duration::from_millis(1));
    sleep(Duration::from_secs(60)).await;
    let status = policy.health.status();
    let reason = &status[0].last_error.as_ref().unwrap().reason;
    assert!(reason.contains("did not answer within 1ms"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_told() {
    let (hole, up) = (BlackHole::new(), listen(0).await);
    let unknown = listen(0).await;
    let policy = policy(&[&hole.listener, &up, &unknown]);
    policy.reach(None, &destination(&hole.listener)).await.unwrap_err();
    policy.reach(None, &destination(&up)).await.unwrap();
    sleep(Duration::from_secs(60)).await;

    let status = policy.health.status();
    let of = |listener: &TcpListener| {
        let address = listener.local_addr().unwrap().to_string();
        status.iter().find(|status| status.destination == address).unwrap()
    };
    let (down, up, unknown) = (of(&hole.listener), of(&up), of(&unknown));
    assert_eq!([down.state, up.state, unknown.state], [State::Down, State::Up, State::Unknown]);
    assert!(up.latency_seconds.is_some() && up.last_error.is_none() && up.since.is_some());
    assert!(unknown.since.is_none() && unknown.latency_seconds.is_none());
    assert!(down.last_error.as_ref().unwrap().reason.contains("did not answer within 5s"));
    assert_eq!([&down.rule, &up.rule, &unknown.rule], ["rule0", "rule1", "rule2"]);

    let shown = metrics(&policy);
    for (name, of, more, value) in [
        ("up", down, "", "0"),
        ("up", up, "", "1"),
        ("state_seconds", down, "", "60"),
        ("last_error_age_seconds", down, ",error=\"timed-out\"", "60"),
    ] {
        let DestinationStatus { destination, rule, .. } = of;
        let line = format!(
            "outproxy_destination_{name}{{rule=\"{rule}\",destination=\"{destination}\"{more}}} {value}"
        );
        assert!(shown.lines().any(|found| found.starts_with(&line)), "`{line}` in {shown}");
    }
    assert!(shown.contains("# HELP outproxy_destination_connect_seconds "), "{shown}");
    assert!(!shown.contains(&unknown.destination), "{shown}");
    // Who is no longer configured has no series any more.
    let after = policy.reloaded(&config(&[]));
    assert_eq!(metrics(&after), "");
}

fn metrics(policy: &Policy) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        tunnel::metrics::describe();
        policy.health.sample();
    });
    recorder.handle().render()
}

fn is_known<T>(result: &Result<T, Refusal>) -> bool {
    matches!(result, Err(Refusal::Down(down)) if down.to_string().contains("` is down"))
}

fn probing(policy: &Policy) -> Prober {
    let mut prober = Prober::default();
    prober.follow(&policy.health, LIMIT);
    prober
}

fn policy(listeners: &[&TcpListener]) -> Policy {
    Policy::new(&config(listeners))
}

fn config(listeners: &[&TcpListener]) -> Config {
    let mut text = "[[listen]]\non = 'unix:/a'\n".to_owned();
    for (number, listener) in listeners.iter().enumerate() {
        let address = listener.local_addr().unwrap();
        text += &format!(
            "[[allow]]\nname = 'rule{number}'\nhosts = ['{}']\nports = [{}]\nprobe = true\n",
            address.ip(),
            address.port()
        );
    }
    text.parse().unwrap()
}

fn destination(listener: &TcpListener) -> Destination {
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap()
}

/// A listener whose backlog is full: what connects to it gets no answer.
struct BlackHole {
    listener: TcpListener,
    filler: Option<Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (listener, filler) = (socket(), socket());
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        filler.connect(&listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener.into()).unwrap();
        Self { listener, filler: Some(filler) }
    }

    /// Accepts from now on, if not too many come at once.
    async fn open(&mut self) {
        self.filler = None;
        self.listener.accept().await.unwrap();
        SockRef::from(&self.listener).listen(1024).unwrap();
    }
}
