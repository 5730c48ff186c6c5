use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tunnel::destination::{Destination, Port};

use super::*;
use crate::allowlist::Rule;
use crate::config::Config;
use crate::policy::Policy;

const GRACE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn cluster(region: &str) -> Arc<Cluster> {
    Arc::new(Cluster {
        id: "cluster-teeultuftgy".parse().unwrap(),
        region: region.parse().unwrap(),
        endpoint: None,
        interval: INTERVAL,
    })
}

fn hsm(stage: Stage, address: &str) -> Hsm {
    Hsm { stage, addresses: vec![address.into()] }
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, reason: "no".into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What stands in the place of AWS.
#[derive(Clone)]
struct Fake(Arc<Mutex<Says>>);

struct Says {
    answer: Result<Vec<Hsm>, Fault>,
    asked: Vec<Instant>,
}

impl Fake {
    fn new(hsms: Vec<Hsm>) -> Self {
        Self(Arc::new(Mutex::new(Says { answer: Ok(hsms), asked: Vec::new() })))
    }

    fn say(&self, answer: Result<Vec<Hsm>, Fault>) {
        self.0.lock().unwrap().answer = answer;
    }

    /// How long it took each time until it was asked again.
    fn pauses(&self) -> Vec<Duration> {
        let asked = std::mem::take(&mut self.0.lock().unwrap().asked);
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl Api for Fake {
    async fn hsms(&self) -> Result<Vec<Hsm>, Fault> {
        let mut says = self.0.lock().unwrap();
        says.asked.push(Instant::now());
        says.answer.clone()
    }
}

/// A policy with one rule, which follows `cluster`.
fn config(cluster: &Arc<Cluster>) -> Config {
    let mut config: Config = "[[listen]]\non = 'unix:/a'".parse().unwrap();
    let ports = vec![Port::try_from(2223).unwrap()];
    let rule = Rule::new("hsm".parse().unwrap(), Vec::new(), ports, None, None);
    config.allowlist = Allowlist::new(vec![rule.following(Arc::clone(cluster))]);
    config
}

fn find(policy: &Policy, address: &str) -> Result<String, String> {
    let destination = format!("{address}:2223").parse().unwrap();
    let rule = policy.allowlist.find(None, &destination);
    rule.map(|rule| rule.name.to_string()).map_err(|refusal| refusal.to_string())
}

fn only(policy: &Policy) -> &Arc<Followed> {
    policy.clusters.followed.values().next().unwrap()
}

#[test]
fn an_hsm_that_is_deleted_drains_until_it_has_been_gone_for_the_grace_period() {
    let (mut record, start) = (Record::default(), Instant::now());
    let [one, two] = ["10.0.10.103", "10.0.11.27"];
    let both = [hsm(Stage::Present, one), hsm(Stage::Present, two)];
    let news = record.take(Ok(&both), start, GRACE);
    assert_eq!(news.allowed, [ip(one), ip(two)]);
    assert!(news.is_change && news.is_turn);
    assert_eq!(record.take(Ok(&both), start, GRACE), News::default());

    let going = [hsm(Stage::Present, one), hsm(Stage::Leaving, two)];
    let news = record.take(Ok(&going), start + SECOND, GRACE);
    assert_eq!((news.draining, news.is_change), (vec![ip(two)], true));
    // However long AWS takes to delete it, its connections go on.
    let late = start + 100 * GRACE;
    assert_eq!(record.take(Ok(&going), late, GRACE), News::default());
    assert_eq!(record.next_expiry(GRACE), None);

    assert_eq!(record.take(Ok(&both[..1]), late, GRACE), News::default());
    assert_eq!(record.next_expiry(GRACE), Some(late + GRACE));
    assert_eq!(record.expire(late + GRACE - SECOND, GRACE), [] as [IpAddr; 0]);
    assert_eq!(record.expire(late + GRACE, GRACE), [ip(two)]);
    let members = record.members.unwrap();
    assert_eq!(members.allowed, [ip(one)].into());
    assert!(members.draining.is_empty());
}

#[test]
fn an_hsm_that_comes_back_is_allowed_again() {
    let (mut record, start) = (Record::default(), Instant::now());
    let hsms = [hsm(Stage::Present, "10.0.10.103")];
    record.take(Ok(&hsms), start, GRACE);
    assert_eq!(record.take(Ok(&[]), start, GRACE).draining, [ip("10.0.10.103")]);
    assert_eq!(record.take(Ok(&hsms), start + SECOND, GRACE).allowed, [ip("10.0.10.103")]);
    assert_eq!(record.next_expiry(GRACE), None);
    assert!(record.members.unwrap().draining.is_empty());
}

#[test]
fn without_a_grace_period_a_gone_hsm_is_gone_at_once() {
    let (mut record, start) = (Record::default(), Instant::now());
    record.take(Ok(&[hsm(Stage::Present, "10.0.10.103")]), start, Duration::ZERO);
    let news = record.take(Ok(&[]), start, Duration::ZERO);
    assert_eq!((news.gone, news.is_change), (vec![ip("10.0.10.103")], true));
    assert_eq!(record.members, Some(Members::default()));
}

#[test]
fn what_aws_told_last_holds_until_it_tells_something_else() {
    let (mut record, start) = (Record::default(), Instant::now());
    let news = record.take(Err(&fault(FaultKind::NotAnswered)), start, GRACE);
    assert!(news.is_turn && !news.is_change);
    assert_eq!(record.members, None);

    record.take(Ok(&[hsm(Stage::Present, "10.0.10.103")]), start, GRACE);
    let known = record.members.clone();
    for kind in [FaultKind::NotAnswered, FaultKind::Denied, FaultKind::NoCredentials] {
        assert!(!record.take(Err(&fault(kind)), start + 1000 * GRACE, GRACE).is_change);
        assert_eq!(record.members, known);
    }
    // The last two faults are nothing new for the log.
    assert!(!record.take(Err(&fault(FaultKind::Denied)), start, GRACE).is_turn);
    assert_eq!((record.answers, record.failures), (1, 5));
    assert_eq!(record.last_fault.as_ref().unwrap().0.kind, FaultKind::Denied);

    // That there is no such cluster is said of its HSMs, too.
    let news = record.take(Err(&fault(FaultKind::NoCluster)), start, GRACE);
    assert_eq!(news.draining, [ip("10.0.10.103")]);
    assert!(record.members.unwrap().allowed.is_empty());
}

#[test]
fn an_address_is_skipped_with_one_line_in_the_log() {
    let (mut record, start) = (Record::default(), Instant::now());
    let hsms = [hsm(Stage::Present, "169.254.169.254"), hsm(Stage::Present, "10.0.10.103")];
    let skipped = record.take(Ok(&hsms), start, GRACE).skipped;
    assert_eq!(skipped.iter().map(|text| &**text).collect::<Vec<_>>(), ["169.254.169.254"]);
    assert!(record.take(Ok(&hsms), start, GRACE).skipped.is_empty());
    assert_eq!(record.members.unwrap().allowed, [ip("10.0.10.103")].into());
}

#[tokio::test(start_paused = true)]
async fn aws_is_asked_now_and_then_and_less_often_while_it_fails() {
    let policy = Policy::new(&config(&cluster("eu-west-1")));
    let (followers, aws) = (Followers::default(), Fake::new(Vec::new()));
    let _task = followers.start(only(&policy), aws.clone(), GRACE);
    // The clock is paused: each sleep here lets all happen that happens until then.
    sleep(10 * INTERVAL).await;
    let pauses = aws.pauses();
    assert!((8..=11).contains(&pauses.len()), "{pauses:?}");
    let expected = INTERVAL.mul_f64(0.89)..INTERVAL.mul_f64(1.11);
    assert!(pauses.iter().all(|pause| expected.contains(pause)), "{pauses:?}");

    aws.say(Err(fault(FaultKind::NotAnswered)));
    sleep(10 * INTERVAL).await;
    let pauses = aws.pauses();
    for (pause, backoff) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        let backoff = f64::from(backoff);
        assert!((0.89 * backoff..1.11 * backoff).contains(&pause.as_secs_f64()), "{pauses:?}");
    }
    assert!(pauses.len() > 8, "{pauses:?}");
    // An answer ends it.
    aws.say(Ok(Vec::new()));
    sleep(2 * INTERVAL).await;
    aws.say(Err(fault(FaultKind::NotAnswered)));
    aws.pauses();
    sleep(INTERVAL + 10 * SECOND).await;
    assert!(aws.pauses()[0] < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_policy_has_the_hsms_that_were_known_when_it_was_made() {
    let cluster = cluster("eu-west-1");
    let policy = Policy::new(&config(&cluster));
    let destination: Destination = "10.0.10.103:2223".parse().unwrap();
    assert_eq!(policy.allowlist.awaits(None, &destination), Some(&cluster));
    let (followers, aws) =
        (Followers::default(), Fake::new(vec![hsm(Stage::Present, "10.0.10.103")]));
    let task = followers.start(only(&policy), aws.clone(), GRACE);
    followers.changed().await;
    assert!(find(&policy, "10.0.10.103").is_err());
    let policy = policy.followed();
    assert_eq!(find(&policy, "10.0.10.103"), Ok("hsm".into()));
    assert_eq!(find(&policy, "10.0.10.104"), Err("no rule lists `10.0.10.104`".into()));
    assert_eq!(policy.allowlist.awaits(None, &"10.0.10.104:2223".parse().unwrap()), None);
    assert_eq!(policy.health.count().unknown, 1);
    // Nothing new is no change.
    assert!(timeout(10 * INTERVAL, followers.changed()).await.is_err());

    // A reload keeps what is known, also if AWS is to be asked more often.
    aws.say(Err(fault(FaultKind::NotAnswered)));
    let often = Arc::new(Cluster { interval: SECOND, ..Cluster::clone(&cluster) });
    let policy = policy.reloaded(&config(&often));
    assert_eq!(find(&policy, "10.0.10.103"), Ok("hsm".into()));
    assert!(!task.is_for(only(&policy), GRACE));
    let elsewhere = policy.reloaded(&config(&self::cluster("us-gov-west-1")));
    assert!(find(&elsewhere, "10.0.10.103").is_err());
}

#[tokio::test(start_paused = true)]
async fn connections_with_an_hsm_that_drains_may_stay_until_it_is_gone() {
    let policy = Policy::new(&config(&cluster("eu-west-1")));
    let (followers, aws) =
        (Followers::default(), Fake::new(vec![hsm(Stage::Present, "10.0.10.103")]));
    let _task = followers.start(only(&policy), aws.clone(), GRACE);
    followers.changed().await;
    aws.say(Ok(Vec::new()));
    followers.changed().await;
    let gone_since = Instant::now();
    let policy = policy.followed();
    let destination = "10.0.10.103:2223".parse().unwrap();
    assert!(find(&policy, "10.0.10.103").unwrap_err().contains("being deleted, or gone"));
    assert!(policy.allowlist.keeps(None, &destination));
    assert!(!policy.allowlist.keeps(None, &"10.0.10.103:2224".parse().unwrap()));
    assert!(policy.reloaded(&config(&cluster("eu-west-1"))).allowlist.keeps(None, &destination));
    assert_eq!(policy.health.count(), crate::health::Count::default());

    // Between two answers.
    followers.changed().await;
    assert_eq!(gone_since.elapsed(), GRACE);
    assert!(!policy.followed().allowlist.keeps(None, &destination));
}
