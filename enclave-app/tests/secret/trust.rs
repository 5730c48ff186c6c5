//! Who is told anything.

use enclave_app::secret::{Roots, SecretConfig, Secrets};
use protocol::answer::Code;

use crate::support::authority::Authority;
use crate::support::canary;
use crate::support::service::Service;
use crate::{config, good, hang, secrets};

#[tokio::test]
async fn a_man_in_the_middle_sees_no_request() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let impostors = [
        (theirs.vouch("localhost"), "BadSignature"),
        (ours.vouch("secretsmanager.eu-west-1.amazonaws.com"), "not valid for"),
        (ours.self_signed("localhost"), "UnknownIssuer"),
    ];
    for (impostor, reason) in impostors {
        let service = Service::start(&impostor, vec![good()]).await;
        let failure = secrets(&ours, &service.url()).current(&canary::ask()).await.unwrap_err();
        assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, false));
        let expected = "the certificate of Secrets Manager is not trusted: ";
        assert!(failure.message.starts_with(expected), "{failure}");
        assert!(failure.message.contains(reason), "{failure}");
        assert!(service.connections() > 0, "it was asked");
        assert_eq!(service.requests(), [""; 0], "but told nothing");
    }
}

#[tokio::test]
async fn without_the_bundle_a_private_authority_is_not_trusted() {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let config = SecretConfig { roots: Roots::load(None).unwrap(), ..config(&authority) };
    let secrets = Secrets::new(config).with_endpoint(service.url());
    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert!(failure.message.contains("not trusted"), "{failure}");
    assert_eq!(service.requests(), [""; 0]);
}

#[tokio::test]
async fn an_endpoint_without_tls_is_not_asked() {
    let service = Service::listen(hang).await;
    let secrets = secrets(&Authority::new(), &service.http_url());
    let failure = secrets.current(&canary::ask()).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::SecretUnavailable, false));
    assert!(failure.message.contains("is not an `https://` URL"), "{failure}");
    assert_eq!(service.connections(), 0);
}
