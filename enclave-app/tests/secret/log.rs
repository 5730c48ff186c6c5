//! What is logged.

use crate::support::authority::Authority;
use crate::support::canary::{self, Log, assert_absent};
use crate::support::moto::Moto;
use crate::support::service::Reply;
use crate::{secrets, standing_in};

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let authority = Authority::new();
    let Some(moto) = Moto::start(&authority).await else { return };
    moto.create(&canary::value()).await;
    let log = Log::default();
    let _guard = log.start();
    secrets(&authority, &moto.url()).current(&canary::ask()).await.unwrap();
    assert!(log.text().contains("fetched the secret"), "it logs at all");
    assert_absent(&log.text());
}

#[tokio::test]
async fn no_secret_of_a_bad_answer_is_logged_at_any_level() {
    let broken = format!(r#"{{"SecretString":"{}", oh"#, canary::PASSWORD);
    let echo = format!("x-amz-security-token:{}", canary::SESSION_TOKEN);
    let replies = [
        Reply::Json(200, "", broken.clone()),
        Reply::Json(500, "", broken),
        Reply::error("InvalidSignatureException", &echo),
        Reply::Cut,
    ];
    for reply in replies {
        let (_authority, _service, secrets) = standing_in(vec![reply]).await;
        let log = Log::default();
        let _guard = log.start();
        let failure = secrets.current(&canary::ask()).await.unwrap_err();
        assert_absent(&failure.message);
        assert_absent(&log.text());
    }
}
