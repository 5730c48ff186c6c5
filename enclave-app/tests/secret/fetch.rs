//! What Secrets Manager gives, and to whom.

use std::sync::Arc;

use enclave_app::pin::PinSource as _;
use enclave_app::secret::{Ask, Asking, SecretConfig, Secrets};
use protocol::action::SecretDescription;
use protocol::answer::Code;

use crate::support::authority::Authority;
use crate::support::canary;
use crate::support::moto::Moto;
use crate::support::service::{Reply, Service};
use crate::{assert_signed_with_the_canary, config, good, secrets, standing_in};

#[tokio::test]
async fn a_secret_is_fetched_and_kept() {
    let authority = Authority::new();
    let Some(moto) = Moto::start(&authority).await else { return };
    let version = moto.create(&canary::value()).await;
    let secrets = secrets(&authority, &moto.url());
    assert_eq!(secrets.known(), None);

    let secret = secrets.current(&canary::ask()).await.unwrap();
    assert_eq!(secret.id, canary::name().id);
    assert_eq!(secret.version, version);
    assert_eq!(secret.pin.expose(), format!("cu:{}", canary::PASSWORD));
    assert_eq!(secrets.known(), Some(SecretDescription { id: canary::name().id, version }));

    drop(moto);
    let again = secrets.current(&Ask::default()).await.unwrap();
    assert!(Arc::ptr_eq(&secret, &again), "it needs neither the service nor credentials");
}

#[tokio::test]
async fn a_refused_version_is_fetched_anew() {
    let authority = Authority::new();
    let Some(moto) = Moto::start(&authority).await else { return };
    moto.create(&canary::value()).await;
    let secrets = secrets(&authority, &moto.url());
    let ask = canary::ask();
    let source = Asking { ask: &ask, secrets: &secrets };
    let old = source.current().await.unwrap();

    let same = source.after(&old).await.unwrap();
    assert_eq!(same.version, old.version, "nothing has changed");

    let version = moto.put(r#"{"HSM_USER":"cu","HSM_PASSWORD":"new"}"#).await;
    assert_eq!(source.current().await.unwrap().version, old.version, "nobody has asked");
    let new = source.after(&old).await.unwrap();
    assert_eq!((new.version.as_str(), new.pin.expose()), (version.as_str(), "cu:new"));
    assert_eq!(source.current().await.unwrap().version, version);
    assert_eq!(secrets.known().unwrap().version, version);
}

#[tokio::test]
async fn twenty_requests_at_once_are_one_at_the_service() {
    let (_authority, service, secrets) = standing_in(vec![good()]).await;
    let asks: Vec<_> = std::iter::repeat_with(canary::ask).take(20).collect();
    let answers = asks.iter().map(|ask| secrets.current(ask));
    for answer in futures_util::future::join_all(answers).await {
        answer.unwrap();
    }
    assert_eq!(service.requests().len(), 1);
}

#[tokio::test]
async fn a_secret_that_does_not_exist_is_named() {
    let authority = Authority::new();
    let Some(moto) = Moto::start(&authority).await else { return };
    let failure = secrets(&authority, &moto.url()).current(&canary::ask()).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, false));
    assert_eq!(
        failure.message,
        "there is no secret `cloudhsm/cluster-1` in region `ap-southeast-1`"
    );
}

#[tokio::test]
async fn a_secret_of_no_use_is_not_shown() {
    let authority = Authority::new();
    let Some(moto) = Moto::start(&authority).await else { return };
    moto.create(&format!(r#"{{"HSM_USER":"cu","HSM_PASSWORD":["{}"]}}"#, canary::PASSWORD)).await;
    let failure = secrets(&authority, &moto.url()).current(&canary::ask()).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, false));
    assert_eq!(
        failure.message,
        "the secret `cloudhsm/cluster-1` must have `HSM_USER` and `HSM_PASSWORD` once each, as texts"
    );
}

#[tokio::test]
async fn an_answer_without_a_version_is_refused() {
    let reply = Reply::Json(200, "", r#"{"SecretString":"{}"}"#.to_owned());
    let (_authority, _service, secrets) = standing_in(vec![reply]).await;
    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert!(!failure.retryable, "{failure}");
}

#[tokio::test]
async fn the_credentials_of_the_request_are_used() {
    let (_authority, service, secrets) = standing_in(vec![good()]).await;
    secrets.current(&canary::ask()).await.unwrap();
    let requests = service.requests();
    assert_signed_with_the_canary(&requests[0]);
    assert!(requests[0].ends_with(r#"{"SecretId":"cloudhsm/cluster-1"}"#), "{}", requests[0]);
}

#[tokio::test]
async fn a_request_without_credentials_is_told_so() {
    let (_authority, service, secrets) = standing_in(vec![good()]).await;
    let failure = secrets.current(&Ask::default()).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::CredentialsMissing, false));
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_request_can_name_the_secret_where_the_configuration_does_not() {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let config = SecretConfig { name: None, ..config(&authority) };
    let secrets = Secrets::new(config).with_endpoint(service.url());

    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert_eq!(failure.code, Code::InvalidRequest);
    let ask = Ask { name: Some(canary::name()), ..canary::ask() };
    assert_eq!(secrets.current(&ask).await.unwrap().version, "v1");
}

#[tokio::test]
async fn credentials_that_are_refused_are_not_tried_again() {
    for code in ["AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"] {
        let message = format!("No {} {}.", canary::SESSION_TOKEN, canary::SECRET_KEY);
        let (_authority, service, secrets) = standing_in(vec![Reply::error(code, &message)]).await;
        let failure = secrets.current(&canary::ask()).await.unwrap_err();
        assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, false));
        let expected = format!("Secrets Manager refuses these credentials ({code})");
        assert_eq!(failure.message, expected);
        assert_eq!(service.requests().len(), 1);
    }
}

#[tokio::test]
async fn who_has_good_credentials_does_not_fail_for_those_who_have_not() {
    let replies = vec![Reply::error("AccessDeniedException", ""), good()];
    let (_authority, service, secrets) = standing_in(replies).await;
    let (one, two) = (canary::ask(), canary::ask());
    let (one, two) = tokio::join!(secrets.current(&one), secrets.current(&two));
    one.unwrap_err();
    two.unwrap();
    assert_eq!(service.requests().len(), 2);
}
