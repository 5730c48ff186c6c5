use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::answer::Code;
use zeroize::Zeroizing;

use super::*;
use crate::pin::Pin;

/// Secrets Manager as a cache sees it: every fetch takes a second.
#[derive(Default)]
struct Service {
    cache: Cache,
    fetches: AtomicUsize,
}

impl Service {
    async fn current(&self, answer: Result<&str, Fault>) -> Result<String, Failure> {
        self.secret("id", None, answer).await
    }

    async fn after(&self, refused: &str, answer: Result<&str, Fault>) -> Result<String, Failure> {
        self.secret("id", Some(refused), answer).await
    }

    /// The version that the cache gives, where a fetch would give this one.
    async fn secret(
        &self,
        id: &str,
        refused: Option<&str>,
        answer: Result<&str, Fault>,
    ) -> Result<String, Failure> {
        let name = SecretName { id: id.to_owned(), region: "ap-southeast-1".to_owned() };
        let fetch = async {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            // What a fetch takes; the clock is paused.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let pin = Pin::new(Zeroizing::new("user:password".to_owned()));
            answer.map(|version| Secret { id: id.to_owned(), version: version.to_owned(), pin })
        };
        let secret = self.cache.secret(&name, refused, fetch).await;
        secret.map(|secret| secret.version.clone())
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn refused() -> Fault {
    Fault::request(Code::SecretUnavailable, "refused")
}

fn down() -> Fault {
    Fault::passing("down")
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_fetched_once() {
    let service = Service::default();
    assert_eq!(service.current(Ok("1")).await.unwrap(), "1");
    assert_eq!(service.current(Ok("2")).await.unwrap(), "1");
    assert_eq!(service.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_share_a_fetch() {
    let service = Service::default();
    let (one, two, three) =
        tokio::join!(service.current(Ok("1")), service.current(Ok("2")), service.current(Ok("3")));
    assert_eq!([one.unwrap(), two.unwrap(), three.unwrap()], ["1", "1", "1"]);
    assert_eq!(service.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_does_not_spoil_it_for_the_others() {
    let service = Service::default();
    let (one, two, three) = tokio::join!(
        service.current(Err(refused())),
        service.current(Ok("2")),
        service.current(Ok("3"))
    );
    assert_eq!(one.unwrap_err().message, "refused");
    assert_eq!([two.unwrap(), three.unwrap()], ["2", "2"]);
    assert_eq!(service.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waited_while_the_service_was_down_does_not_wait_again() {
    let service = Service::default();
    let (one, two) = tokio::join!(service.current(Err(down())), service.current(Ok("2")));
    assert_eq!([one.unwrap_err().message, two.unwrap_err().message], ["down", "down"]);
    assert_eq!(service.fetches(), 1);
    assert_eq!(service.current(Ok("3")).await.unwrap(), "3", "a later request tries anew");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_abandoned_is_done_by_the_next() {
    let service = Service::default();
    let abandoned = tokio::time::timeout(Duration::from_millis(500), service.current(Ok("1")));
    let (one, two) = tokio::join!(abandoned, service.current(Ok("2")));
    one.unwrap_err();
    assert_eq!(two.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_refused_version_is_fetched_anew() {
    let service = Service::default();
    service.current(Ok("1")).await.unwrap();
    assert_eq!(service.after("1", Ok("2")).await.unwrap(), "2");
    assert_eq!(service.current(Ok("3")).await.unwrap(), "2", "the new one is kept");
}

#[tokio::test(start_paused = true)]
async fn a_refused_version_that_was_replaced_meanwhile_is_not_fetched_again() {
    let service = Service::default();
    service.current(Ok("1")).await.unwrap();
    service.after("1", Ok("2")).await.unwrap();
    assert_eq!(service.after("1", Ok("3")).await.unwrap(), "2");
    assert_eq!(service.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_refusals_of_a_version_that_is_still_the_same_share_a_fetch() {
    let service = Service::default();
    service.current(Ok("1")).await.unwrap();
    let (one, two) = tokio::join!(service.after("1", Ok("1")), service.after("1", Ok("1")));
    assert_eq!([one.unwrap(), two.unwrap()], ["1", "1"]);
    assert_eq!(service.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_remains_when_it_cannot_be_fetched_anew() {
    let service = Service::default();
    service.current(Ok("1")).await.unwrap();
    service.after("1", Err(down())).await.unwrap_err();
    assert_eq!(service.current(Ok("2")).await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn secrets_without_end_take_no_memory_without_end() {
    let service = Service::default();
    for number in 0..100 {
        service.secret(&number.to_string(), None, Ok("1")).await.unwrap();
    }
    assert!(service.cache.0.lock().unwrap().len() <= MAX_SECRETS);
}
