//! A service that does not answer as it should, and a network that does not carry.

use std::time::Instant;

use enclave_app::secret::Secrets;
use protocol::answer::{Code, Failure};

use crate::support::authority::Authority;
use crate::support::canary;
use crate::support::moto;
use crate::support::service::{Reply, Service, header};
use crate::{BOUND, good, hang, secrets, standing_in};

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again() {
    let busy = Reply::error("ThrottlingException", "Rate exceeded");
    let (_authority, service, secrets) = standing_in(vec![busy.clone(), good()]).await;
    secrets.current(&canary::ask()).await.unwrap();
    assert_eq!(service.requests().len(), 2);

    let (_authority, service, secrets) = standing_in(vec![busy]).await;
    assert_retryable(&secrets.current(&canary::ask()).await.unwrap_err(), "ThrottlingException");
    assert_eq!(service.requests().len(), 3);
}

#[tokio::test]
async fn a_clock_that_is_an_hour_late_is_corrected() {
    let late = Reply::Json(
        400,
        "date: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
        r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#.to_owned(),
    );
    let (_authority, service, secrets) = standing_in(vec![late, good()]).await;
    secrets.current(&canary::ask()).await.unwrap();
    let requests = service.requests();
    assert!(header(&requests[1], "x-amz-date").unwrap().starts_with("21000101T"));
}

#[tokio::test]
async fn a_service_that_accepts_and_says_nothing_is_given_up() {
    let service = Service::listen(hang).await;
    let secrets = secrets(&Authority::new(), &service.url());
    assert_given_up(&secrets).await;
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    let (_authority, _service, secrets) = standing_in(vec![Reply::Silence]).await;
    assert_given_up(&secrets).await;
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let (_authority, _service, secrets) = standing_in(vec![Reply::Trickle]).await;
    assert_given_up(&secrets).await;
}

#[tokio::test]
async fn one_attempt_that_hangs_does_not_fail_the_fetch() {
    let (_authority, _service, secrets) = standing_in(vec![Reply::Silence, good()]).await;
    secrets.current(&canary::ask()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew() {
    for broken in [Reply::Close, Reply::Cut] {
        let (_authority, service, secrets) = standing_in(vec![broken, good()]).await;
        secrets.current(&canary::ask()).await.unwrap();
        assert_eq!(service.requests().len(), 2);
    }
}

#[tokio::test]
async fn connections_that_always_break_are_reported() {
    let reset = Service::listen(|stream| async move {
        stream.set_zero_linger().unwrap();
    });
    let reset = reset.await;
    let failure = secrets(&Authority::new(), &reset.url()).current(&canary::ask()).await;
    assert_retryable(&failure.unwrap_err(), "cannot reach Secrets Manager: Connection reset");

    let (_authority, _service, secrets) = standing_in(vec![Reply::Close]).await;
    assert_retryable(&secrets.current(&canary::ask()).await.unwrap_err(), "cannot reach");

    let (_authority, _service, secrets) = standing_in(vec![Reply::Cut]).await;
    assert_retryable(&secrets.current(&canary::ask()).await.unwrap_err(), "not understood");
}

#[tokio::test]
async fn a_refused_connection_is_reported() {
    let url = format!("https://localhost:{}", moto::free_port());
    let failure = secrets(&Authority::new(), &url).current(&canary::ask()).await.unwrap_err();
    assert_retryable(&failure, "cannot reach Secrets Manager: Connection refused");
}

#[tokio::test]
async fn a_name_that_has_no_address_is_reported() {
    let secrets = secrets(&Authority::new(), "https://secretsmanager.invalid");
    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert_retryable(&failure, "cannot reach Secrets Manager: failed to lookup address");
}

fn assert_retryable(failure: &Failure, message: &str) {
    assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, true), "{failure}");
    assert!(failure.message.contains(message), "{failure}");
}

async fn assert_given_up(secrets: &Secrets) {
    let started = Instant::now();
    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert_retryable(&failure, "Secrets Manager did not answer within 8 s");
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
}
