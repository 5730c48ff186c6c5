//! A process without descriptors. There are no other tests here: they would have none either.

use std::fs::File;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outproxy::config::Config;
use outproxy::dial::DialError;
use outproxy::health::Count;
use outproxy::policy::Policy;
use outproxy::refusal::Refusal;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_want_of_descriptors_is_not_the_fault_of_a_destination() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config: Config = format!(
        "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'a'\nhosts = ['{}']\nports = [{}]\n\
         probe = true\n",
        address.ip(),
        address.port()
    )
    .parse()
    .unwrap();
    let policy = Policy::new(&config);
    let destination = address.to_string().parse().unwrap();
    policy.reach(None, &destination).await.unwrap();

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 100, hard).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for _ in 0..3 {
        let error = policy.reach(None, &destination).await.unwrap_err();
        assert!(matches!(error, Refusal::Dial(DialError::Local { .. })), "{error}");
    }
    drop(hoard);
    let up = Count { up: 1, ..Count::default() };
    assert_eq!(policy.health.count(), up);
    policy.reach(None, &destination).await.unwrap();
}
