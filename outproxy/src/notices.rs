//! The sessions of the inproxies that are connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tunnel::buffer::Buffer;
use tunnel::endpoint::Cid;
use tunnel::event_loop;
use tunnel::head::{NOTICES_GRANT, SessionId, TunnelId};
use tunnel::notices::{Session, Tunnel};
use tunnel::stream::Stream;

/// All sessions, each under the CID of its client: no client can name another's.
#[derive(Debug, Default)]
pub struct Notices {
    sessions: Mutex<Sessions>,
}

type Sessions = HashMap<(Option<Cid>, SessionId), Weak<Session>>;

impl Notices {
    /// Registers a tunnel. `None` if notices of it cannot be sent.
    pub fn register(&self, cid: Option<Cid>, id: TunnelId) -> Option<Tunnel> {
        let tunnel = self.session(cid, id.session)?.register(id.number)?;
        if let Some(expecting) = tunnel.session().expect_connection() {
            event_loop::spawn(expecting.wait(LONGEST_ATTEMPT));
        }
        Some(tunnel)
    }

    /// A client's session, which lasts as long as somebody holds it. `None` if the client has too
    /// many.
    pub fn session(&self, cid: Option<Cid>, id: SessionId) -> Option<Arc<Session>> {
        let mut sessions = self.lock();
        let known = sessions.get(&(cid, id)).and_then(Weak::upgrade);
        if let Some(session) = known.filter(|session| !session.is_over()) {
            return Some(session);
        }
        sessions.retain(|_, session| session.strong_count() > 0);
        if sessions.keys().filter(|(of, _)| *of == cid).count() >= MOST_PER_CLIENT {
            return None;
        }
        let session = Arc::new(Session::default());
        sessions.insert((cid, id), Arc::downgrade(&session));
        Some(session)
    }

    /// Has the tunnels of a client wait for a connection for notices no longer.
    pub fn expect_no_connection(&self, cid: Option<Cid>) {
        self.lock()
            .iter()
            .filter(|((of, _), _)| *of == cid)
            .filter_map(|(_, session)| session.upgrade())
            .for_each(|session| session.expect_no_connection());
    }

    /// Tells every client that this process takes no new tunnels.
    pub fn retire(&self) {
        self.all().iter().for_each(|session| session.retire());
    }

    /// Takes leave of every client, so that what was said of tunnels is known before they end.
    pub async fn leave(&self) {
        join_all(self.all().iter().map(|session| session.leave())).await;
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing panics while it holds the lock.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Grants a connection for notices, and serves it to its end.
pub async fn serve(session: Arc<Session>, mut stream: Stream, rest: Buffer, limit: Duration) {
    let granting = stream.write_all(NOTICES_GRANT.as_bytes());
    if let Ok(Ok(())) = timeout(limit, granting).await {
        session.serve(stream, rest).await;
    }
}

/// How long the client of a new session has to connect for notices. It does so as soon as it has
/// its first tunnel; meanwhile that may be over.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(1);
/// How many sessions a client may have. One is enough, but one that ends may still have tunnels.
const MOST_PER_CLIENT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId::new(7);

    #[test]
    fn nobody_can_name_the_session_of_another_client() {
        let notices = Notices::default();
        let [own, same, other, local] = [Some(16), Some(16), Some(17), None]
            .map(|cid| notices.session(cid.map(Cid::new), ID).unwrap());
        assert!(Arc::ptr_eq(&own, &same));
        assert!(!Arc::ptr_eq(&own, &other) && !Arc::ptr_eq(&own, &local));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_outlives_its_first_tunnel_until_the_client_has_had_time_to_connect() {
        let notices = Notices::default();
        drop(notices.register(None, TunnelId { session: ID, number: 1 }));
        let known = || notices.all().len();
        tokio::time::sleep(LONGEST_ATTEMPT / 2).await;
        assert_eq!(known(), 1);
        tokio::time::sleep(LONGEST_ATTEMPT).await;
        assert_eq!(known(), 0);
    }

    #[test]
    fn a_client_with_too_many_sessions_leaves_the_others_theirs() {
        let notices = Notices::default();
        let session = |cid, id: usize| {
            let id = SessionId::new(id.try_into().unwrap());
            notices.session(Some(Cid::new(cid)), id)
        };
        let mut held: Vec<_> = (0..MOST_PER_CLIENT).map(|id| session(16, id).unwrap()).collect();
        assert!(session(16, MOST_PER_CLIENT).is_none());
        assert!(session(17, 0).is_some());
        held.pop();
        assert!(session(16, MOST_PER_CLIENT).is_some());
    }

    #[tokio::test]
    async fn a_number_names_one_tunnel_at_a_time() {
        let notices = Notices::default();
        let register = || notices.register(None, TunnelId { session: ID, number: 1 });
        let first = register();
        assert!(first.is_some() && register().is_none());
        drop(first);
        assert!(register().is_some());
    }
}
