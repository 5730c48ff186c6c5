//! Listeners that outlive this process, so that a restart refuses nobody.
//!
//! vsock has no SO_REUSEPORT: nobody can listen beside a process that is about to end. So every
//! listening socket is put into systemd's FD store, which keeps it open until the next process is
//! there and takes it over. A socket unit does the same.

mod inherited;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::AsFd;

use tunnel::endpoint::Endpoint;
use tunnel::listener::{Bound, ListenError, Listener};

pub use self::inherited::Inherited;
use crate::config::Config;
use crate::service_manager::ServiceManager;

/// Takes over the listeners of the process before this one, and hands on those of this one.
#[derive(Debug)]
pub struct Handover {
    manager: ServiceManager,
    inherited: HashMap<Endpoint, (String, Bound)>,
    /// The listeners that the next process will inherit, and their names.
    kept: HashMap<Endpoint, String>,
}

impl Handover {
    /// Closes what `config` does not want of that which was inherited, so that its endpoints are
    /// free.
    pub async fn begin(inherited: Inherited, config: &Config, manager: ServiceManager) -> Self {
        if let Some(error) = &inherited.error {
            tracing::error!(%error, "failed to take over the sockets of the service manager");
        }
        let mut unwanted = BTreeSet::new();
        for (name, reason) in inherited.others {
            tracing::warn!(name, %reason, "closed what was inherited, but is no listener");
            unwanted.insert(name);
        }
        let wanted: Vec<_> = config.endpoints().collect();
        let mut this = Self { manager, inherited: HashMap::new(), kept: HashMap::new() };
        for (name, bound) in inherited.bound {
            let endpoint = bound.endpoint().clone();
            if wanted.contains(&&endpoint) && !this.inherited.contains_key(&endpoint) {
                this.inherited.insert(endpoint, (name, bound));
            } else {
                tracing::warn!(listener = %endpoint, name, "closed an inherited listener that is not configured");
                unwanted.insert(name);
            }
        }
        // The listeners of a socket unit may all have the same name.
        for (name, _) in this.inherited.values() {
            unwanted.remove(name);
        }
        this.manager.remove(&Vec::from_iter(unwanted)).await;
        this
    }

    /// The listener of an endpoint: the inherited one, or a new one.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with what the system answered.
    pub fn listen(&mut self, endpoint: &Endpoint) -> Result<Listener, ListenError> {
        let Some((name, bound)) = self.inherited.remove(endpoint) else {
            return Listener::bind(endpoint);
        };
        let listener = Listener::adopt(bound)?;
        tracing::info!(listener = %endpoint, name, "took over a listener");
        self.kept.insert(endpoint.clone(), name);
        Ok(listener)
    }

    /// Hands on these listeners, and no others any more.
    pub async fn keep_only(&mut self, listeners: &[&Listener]) {
        let is_wanted =
            |endpoint: &Endpoint| listeners.iter().any(|listener| listener.endpoint() == endpoint);
        let dropped: Vec<_> = self.kept.extract_if(|endpoint, _| !is_wanted(endpoint)).collect();
        self.manager.remove(&dropped.iter().map(|(_, name)| name).collect::<Vec<_>>()).await;
        for (endpoint, name) in dropped {
            if name != name_of(&endpoint) {
                tracing::warn!(listener = %endpoint, name, "clients can still connect to its socket unit");
            } else if let Endpoint::Unix(path) = &endpoint {
                // Somebody may have removed it already; there is nobody to tell.
                let _ = fs::remove_file(path);
            }
        }
        for listener in listeners {
            let endpoint = listener.endpoint();
            if self.kept.contains_key(endpoint) {
                continue;
            }
            let name = name_of(endpoint);
            if self.manager.store(&name, listener.as_fd()).await {
                listener.keep_name();
                self.kept.insert(endpoint.clone(), name);
            }
        }
    }
}

/// What an endpoint is called in the FD store, whose names are printable ASCII without colons.
fn name_of(endpoint: &Endpoint) -> String {
    let mut name = String::new();
    for byte in endpoint.to_string().bytes() {
        match byte {
            b':' => name.push(','),
            b',' | b'%' => name.push_str(&format!("%{byte:02x}")),
            b' '..=b'~' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name.truncate(LONGEST_NAME);
    name
}

/// FDNAME_MAX of systemd.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_takes_and_tell_endpoints_apart() {
        for (endpoint, name) in [
            ("vsock:any:8443", "vsock,any,8443"),
            ("tcp:[::1]:9464", "tcp,[,,1],9464"),
            ("unix:/run/a:b", "unix,/run/a,b"),
            ("unix:/run/a,b", "unix,/run/a%2cb"),
            ("unix:/run/a%2cb", "unix,/run/a%252cb"),
            ("unix:/run/\u{e9}\n", "unix,/run/%c3%a9%0a"),
        ] {
            assert_eq!(name_of(&endpoint.parse().unwrap()), name);
        }
        let long = format!("unix:/{}", "\u{e9}".repeat(100));
        assert_eq!(name_of(&long.parse().unwrap()).len(), LONGEST_NAME);
    }
}
