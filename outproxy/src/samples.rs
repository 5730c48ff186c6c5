//! What is not counted as it happens, but looked up when somebody asks for metrics.
//!
//! Nobody pays for it meanwhile, and what is gone by then, such as a rule after a reload, leaves no
//! series behind.

use metrics::{counter, gauge};
use tunnel::limits::MaxConnections;
use tunnel::metrics as names;
use tunnel::{kernel, process};

use crate::enclaves;
use crate::overview::Overview;

/// Sets all of it, for the recorder of this thread.
pub fn take(overview: &Overview) {
    let service = overview.service();
    let policy = service.policy();
    gauge!(names::CONNECTIONS_OPEN).set(service.connections().count() as f64);
    gauge!(names::CONNECTIONS_MAX).set(policy.limits.max_connections.get() as f64);
    for rule in policy.allowlist.rules() {
        let name = rule.name.to_string();
        gauge!(names::RULE_CONNECTIONS_OPEN, "rule" => name.clone()).set(rule.open() as f64);
        if let Some(most) = rule.max_connections.map(MaxConnections::get) {
            gauge!(names::RULE_CONNECTIONS_MAX, "rule" => name).set(most as f64);
        }
    }
    policy.health.sample();
    policy.clusters.sample();
    for (client, rule, over, count) in service.journal().outcomes().iter() {
        let rule = rule.map_or_else(String::new, ToString::to_string);
        let labels = [("rule", rule), ("cid", client.to_string()), ("outcome", over.word().into())];
        counter!(names::CONNECTIONS, &labels).absolute(count);
    }
    enclaves::sample(service.enclaves());
    let (good, loaded) = overview.last_load();
    gauge!(names::CONFIG_GOOD).set(f64::from(u8::from(good)));
    gauge!(names::CONFIG_LOADED).set(loaded as f64);
    gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let hazard = f64::from(u8::from(kernel::loses_vsock_data()));
    gauge!(names::KERNEL_HAZARD, "hazard" => "vsock-data-loss").set(hazard);
    process::sample();
}
