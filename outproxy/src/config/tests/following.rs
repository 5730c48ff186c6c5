//! Rules that follow a cluster.

use super::*;

const FOLLOWING: &str = "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'hsm'\n\
                         cloudhsm-cluster = 'cluster-teeultuftgy'\nregion = 'eu-west-1'\n";

#[cfg(not(feature = "cloudhsm"))]
#[test]
fn an_outproxy_that_cannot_ask_aws_says_so() {
    let report = report(FOLLOWING);
    assert!(report.contains("line 5, column 20"), "{report}");
    assert!(report.contains("built without the feature cloudhsm; build one with"), "{report}");
}

#[cfg(feature = "cloudhsm")]
#[test]
fn a_rule_that_follows_a_cluster_says_little() {
    let few = config(FOLLOWING);
    let rule = &few.allowlist.rules()[0];
    assert_eq!(rule.ports.iter().map(|port| port.get()).collect::<Vec<_>>(), [2223, 2224, 2225]);
    assert!(rule.hosts.is_empty());
    let cluster = rule.cluster.as_ref().unwrap();
    assert_eq!(
        (cluster.id.as_str(), cluster.region.as_str()),
        ("cluster-teeultuftgy", "eu-west-1")
    );
    assert_eq!((&cluster.endpoint, cluster.interval.as_secs()), (&None, 60));

    let many = config(&format!(
        "{FOLLOWING}ports = [2223]\npoll-interval = '5m'\nprobe = false\ncids = [16]\n\
         endpoint-url = 'http://127.0.0.1:5000'\n"
    ));
    let rule = &many.allowlist.rules()[0];
    let cluster = rule.cluster.as_ref().unwrap();
    assert_eq!((rule.ports.len(), rule.probe, cluster.interval.as_secs()), (1, Some(false), 300));
    assert_eq!(cluster.endpoint.as_ref().unwrap().as_str(), "http://127.0.0.1:5000");
    // A raw listener may lead to whatever HSM there will be.
    config(&format!("[[listen]]\non = 'tcp:127.0.0.1:1'\nto = '10.0.10.103:2223'\n{FOLLOWING}"));
}

#[cfg(feature = "cloudhsm")]
#[test]
fn rules_for_one_cluster_follow_it_in_one_way() {
    let other = FOLLOWING.replace("'hsm'", "'other'").replace("[[listen]]\non = 'unix:/a'\n", "");
    // Only the clients differ.
    config(&format!("{FOLLOWING}cids = [16]\n{other}cids = [17]\n"));
    for (text, line, expected) in [
        (format!("{FOLLOWING}{other}poll-interval = '5m'"), 8, "not in the same way"),
        (FOLLOWING.to_owned() + &other.replace("eu-west-1", "eu-west-2"), 8, "not in the same way"),
        (format!("{FOLLOWING}{other}"), 8, "never decides"),
    ] {
        assert_mistake(&text, line, expected);
    }
}

#[test]
fn mistakes_about_clusters_are_shown_where_they_are() {
    let without = |line: &str| FOLLOWING.replace(line, "");
    let elsewhere =
        "[[listen]]\non = 'unix:/a'\n[[allow]]\nname = 'a'\nhosts = ['a.example']\nports = [1]\n";
    for (text, line, expected) in [
        (without("region = 'eu-west-1'\n"), 4, "missing key `region`"),
        (FOLLOWING.replace("eu-west-1", "Ireland"), 6, "as in `ap-southeast-1`"),
        (FOLLOWING.replace("teeu", ""), 5, "as in `cluster-teeultuftgy`"),
        (format!("{FOLLOWING}hosts = ['10.0.10.103']"), 7, "remove `hosts`"),
        (format!("{FOLLOWING}poll-interval = '1ms'"), 7, "from `1s` to `1h`"),
        (format!("{FOLLOWING}poll-interval = '0s'"), 7, "from `1s` to `1h`"),
        (format!("{FOLLOWING}poll-interval = '2h'"), 7, "from `1s` to `1h`"),
        (format!("{FOLLOWING}endpoint-url = 'http://10.0.0.9'"), 7, "write `https://`"),
        (format!("{FOLLOWING}cloudhsm-clusters = 'a'"), 7, "unknown key `cloudhsm-clusters`"),
        (format!("{elsewhere}region = 'eu-west-1'"), 7, "`region` is for rules with"),
        (format!("{elsewhere}poll-interval = '5m'"), 7, "`poll-interval` is for rules with"),
        (format!("{elsewhere}endpoint-url = 'https://a'"), 7, "`endpoint-url` is for rules with"),
        ("[[allow]]\nname = 'a'\nports = [1]".into(), 2, "missing key `hosts`"),
        ("[[allow]]\nname = 'a'\nhosts = ['a.example']".into(), 2, "missing key `ports`"),
    ] {
        assert_mistake(&text, line, expected);
    }
}
