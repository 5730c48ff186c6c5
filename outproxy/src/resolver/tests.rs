use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;

const TTL: Duration = Duration::from_secs(60);

/// What a scripted name server does with a question, and how long it takes.
type Act = (Duration, Result<Reply, DnsError>);

/// What it does with each question.
type Acts = fn(&Question) -> Act;

/// A name server that does what the test says.
#[derive(Clone)]
struct Script {
    asked: Arc<AtomicUsize>,
    acts: Arc<Mutex<Acts>>,
}

impl Script {
    fn new(acts: Acts) -> (Self, Resolver) {
        let script = Self { asked: Arc::default(), acts: Arc::new(Mutex::new(acts)) };
        let resolver = Resolver::of(script.clone(), BUDGET, Memory::default());
        (script, resolver)
    }

    fn now(&self, acts: Acts) {
        *self.acts.lock().unwrap() = acts;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Ask for Script {
    fn ask(&self, question: &Question) -> BoxFuture<'static, Result<Reply, DnsError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (delay, result) = self.acts.lock().unwrap()(question);
        sleep(delay).map(|()| result).boxed()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

fn answers(question: &Question) -> Act {
    let ip: IpAddr = match question.family {
        Family::V4 => [10, 0, 10, 103].into(),
        Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, 0x10].into(),
    };
    (Duration::ZERO, Ok(Reply { answer: Ok([ip].into()), ttl: TTL }))
}

fn fails(question: &Question) -> Act {
    (Duration::ZERO, Err(DnsError::failed(&question.name, "SERVFAIL")))
}

fn denies(question: &Question) -> Act {
    let answer = Err(DnsError::NotFound(question.name.clone()));
    (Duration::ZERO, Ok(Reply { answer, ttl: TTL }))
}

fn is_silent(question: &Question) -> Act {
    (Duration::MAX, fails(question).1)
}

fn answers_a_only(question: &Question) -> Act {
    match question.family {
        Family::V4 => answers(question),
        Family::V6 => is_silent(question),
    }
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

/// The answer for IPv4, and the time it took.
async fn v4(resolver: &Resolver, text: &str) -> (Answer, Duration) {
    let begin = Instant::now();
    let mut lookup = resolver.lookup(&name(text));
    while let Some((family, answer)) = lookup.next().await {
        if family == Family::V4 {
            return (answer, begin.elapsed());
        }
    }
    panic!("no answer for IPv4");
}

#[tokio::test(start_paused = true)]
async fn a_family_that_is_ignored_does_not_hold_up_the_other() {
    let (_, resolver) = Script::new(answers_a_only);
    let begin = Instant::now();
    let mut lookup = resolver.lookup(&name("a.test"));

    let (family, answer) = lookup.next().await.unwrap();
    assert_eq!((family, begin.elapsed()), (Family::V4, Duration::ZERO));
    answer.unwrap();
    assert!(lookup.awaits(Family::V6) && !lookup.awaits(Family::V4));

    let (family, answer) = lookup.next().await.unwrap();
    assert_eq!((family, begin.elapsed()), (Family::V6, BUDGET));
    assert!(matches!(answer, Err(DnsError::TimedOut { after: BUDGET, .. })));
    assert!(lookup.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn lookups_of_one_name_share_one_query() {
    let (script, resolver) = Script::new(|question| (TTL / 60, answers(question).1));
    let all = join_all((0..200).map(|_| v4(&resolver, "a.test"))).await;
    assert!(all.into_iter().all(|(answer, _)| answer.is_ok()));
    assert_eq!(script.asked(), 2, "one for each family");
}

#[tokio::test(start_paused = true)]
async fn a_query_goes_on_when_nobody_waits_for_it() {
    let (script, resolver) = Script::new(|question| (BUDGET / 2, answers(question).1));
    drop(resolver.lookup(&name("a.test")));
    sleep(BUDGET).await;
    let (answer, took) = v4(&resolver, "a.test").await;
    answer.unwrap();
    assert_eq!((took, script.asked()), (Duration::ZERO, 2));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_for_again_after_its_ttl() {
    let (script, resolver) = Script::new(answers);
    for asked in [2, 2, 4] {
        v4(&resolver, "a.test").await.0.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(script.asked(), asked);
        advance(TTL / 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_kills_nothing_and_is_counted() {
    let (script, mut resolver) = Script::new(answers);
    let counted = Arc::new(AtomicU64::new(0));
    Arc::get_mut(&mut resolver.0).unwrap().stale_answers = Counter::from_arc(counted.clone());
    v4(&resolver, "a.test").await.0.unwrap();
    advance(TTL).await;

    script.now(fails);
    for expected in 1..=3 {
        let (answer, took) = v4(&resolver, "a.test").await;
        assert_eq!(*answer.unwrap(), [IpAddr::from([10, 0, 10, 103])]);
        assert_eq!(took, Duration::ZERO);
        assert!(counted.load(Ordering::Relaxed) >= expected);
    }
    assert_eq!(script.asked(), 4, "the failure is remembered for a while");

    advance(LAST_GOOD).await;
    assert!(matches!(v4(&resolver, "a.test").await.0, Err(DnsError::Failed { .. })));
    script.now(answers);
    advance(TTL).await;
    v4(&resolver, "a.test").await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_delays_the_last_good_answer_only_once() {
    let (script, resolver) = Script::new(answers);
    v4(&resolver, "a.test").await.0.unwrap();
    advance(TTL).await;

    script.now(is_silent);
    let (answer, took) = v4(&resolver, "a.test").await;
    answer.unwrap();
    assert_eq!(took, PATIENCE);
    sleep(BUDGET).await;
    for _ in 0..100 {
        let (answer, took) = v4(&resolver, "a.test").await;
        answer.unwrap();
        assert_eq!(took, Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
    }
    assert!(script.asked() > 10, "the name servers are tried again");
    script.now(answers);
    sleep(Duration::from_secs(10)).await;
    v4(&resolver, "a.test").await.0.unwrap();
    sleep(Duration::from_secs(1)).await;
    let asked = script.asked();
    v4(&resolver, "a.test").await.0.unwrap();
    assert_eq!(script.asked(), asked, "the answer is fresh again");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_removed_is_gone() {
    let (script, resolver) = Script::new(answers);
    v4(&resolver, "a.test").await.0.unwrap();
    advance(TTL).await;
    script.now(denies);
    assert!(matches!(v4(&resolver, "a.test").await.0, Err(DnsError::NotFound(_))));
    advance(TTL).await;
    script.now(fails);
    assert!(matches!(v4(&resolver, "a.test").await.0, Err(DnsError::Failed { .. })));
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_knows_do_not_pile_up_queries() {
    let (script, resolver) = Script::new(is_silent);
    let lookups: Vec<_> =
        (0..IN_FLIGHT).map(|i| resolver.lookup(&name(&format!("x{i}.test")))).collect();
    assert_eq!(script.asked(), IN_FLIGHT);
    let (answer, took) = v4(&resolver, "a.test").await;
    assert!(matches!(answer, Err(DnsError::Failed { .. })), "{answer:?}");
    assert_eq!(took, Duration::ZERO);

    drop(lookups);
    sleep(2 * BUDGET).await;
    script.now(answers);
    v4(&resolver, "a.test").await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_query_that_panics_is_asked_again() {
    let resolver = Resolver::of(Panics::default(), BUDGET, Memory::default());
    assert!(matches!(v4(&resolver, "a.test").await.0, Err(DnsError::Failed { .. })));
    v4(&resolver, "a.test").await.0.unwrap();
}

/// Panics at the first two questions, one for each family.
#[derive(Debug, Default)]
struct Panics(AtomicUsize);

impl Ask for Panics {
    fn ask(&self, question: &Question) -> BoxFuture<'static, Result<Reply, DnsError>> {
        let first = self.0.fetch_add(1, Ordering::Relaxed) < 2;
        let result = answers(question).1;
        async move {
            assert!(!first, "this is the test");
            result
        }
        .boxed()
    }
}
