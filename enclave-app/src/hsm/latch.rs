//! Counts refused logins, since an HSM locks a user whose password is wrong five times.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::pin::Secret;

/// What was refused, for the life of this process.
#[derive(Debug, Default)]
pub(super) struct Latch(HashMap<Version, Refusals>);

/// The id and the VersionId of a secret.
type Version = (String, String);

#[derive(Debug, Default)]
struct Refusals {
    /// How many logins were refused.
    count: u8,
    /// When somebody was last allowed to ask whether the secret has changed.
    rechecked: Option<Instant>,
    /// Whether the HSM has locked the user.
    user_locked: bool,
}

/// What to do with a version of the secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Advice {
    /// Ask first whether there is another.
    AskAgain,
    /// Nothing, for now.
    GiveUp,
    /// Log in with it.
    Use,
}

impl Latch {
    /// What whoever has this version at hand should do. An [`Advice::AskAgain`] is given out once
    /// in [`LATCH_RECHECK`] when no login is left.
    pub(super) fn advise(&mut self, secret: &Secret, now: Instant) -> Advice {
        let Some(refusals) = self.0.get_mut(&version(secret)) else { return Advice::Use };
        if refusals.count < MAX_REFUSALS {
            return Advice::AskAgain;
        }
        if refusals.rechecked.is_some_and(|then| now.duration_since(then) < LATCH_RECHECK) {
            return Advice::GiveUp;
        }
        refusals.rechecked = Some(now);
        Advice::AskAgain
    }

    /// Whether a login with this version is left.
    pub(super) fn permits(&self, secret: &Secret) -> bool {
        self.0.get(&version(secret)).is_none_or(|refusals| refusals.count < MAX_REFUSALS)
    }

    /// The HSM has refused a login with it.
    pub(super) fn refused(&mut self, secret: &Secret, now: Instant) {
        let refusals = self.0.entry(version(secret)).or_default();
        refusals.count = refusals.count.saturating_add(1);
        refusals.rechecked = Some(now);
    }

    /// The HSM has locked the user whose password it is.
    pub(super) fn locked(&mut self, secret: &Secret, now: Instant) {
        let refusals = Refusals { count: MAX_REFUSALS, rechecked: Some(now), user_locked: true };
        self.0.insert(version(secret), refusals);
    }

    /// Whether the HSM has locked the user whose password it is.
    pub(super) fn is_locked(&self, secret: &Secret) -> bool {
        self.0.get(&version(secret)).is_some_and(|refusals| refusals.user_locked)
    }
}

fn version(secret: &Secret) -> Version {
    (secret.id.clone(), secret.version.clone())
}

/// How many logins with a version may be refused. One could be a mistake of the moment, and two
/// versions fit into what the HSM allows.
const MAX_REFUSALS: u8 = 2;

/// How often the secret is asked for anew when no login with it is left.
pub(super) const LATCH_RECHECK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::pin::Pin;

    #[test]
    fn a_version_that_was_never_refused_is_used() {
        let mut latch = Latch::default();
        assert_eq!(latch.advise(&secret("1"), Instant::now()), Advice::Use);
        assert!(latch.permits(&secret("1")));
    }

    #[test]
    fn after_a_refusal_the_secret_is_asked_for_again_before_the_second_login() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        latch.refused(&secret("1"), now);
        assert_eq!(latch.advise(&secret("1"), now), Advice::AskAgain);
        assert_eq!(latch.advise(&secret("1"), now), Advice::AskAgain);
        assert!(latch.permits(&secret("1")));
    }

    #[test]
    fn two_refusals_end_the_logins_with_a_version() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        latch.refused(&secret("1"), now);
        latch.refused(&secret("1"), now);
        assert!(!latch.permits(&secret("1")));
        assert_eq!(latch.advise(&secret("1"), now), Advice::GiveUp);
        assert!(!latch.permits(&secret("1")), "advice changes nothing");
    }

    #[test]
    fn another_version_or_another_secret_is_not_concerned() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        latch.locked(&secret("1"), now);
        assert!(latch.permits(&secret("2")));
        let other = Secret { id: "other".into(), ..secret("1") };
        assert_eq!(latch.advise(&other, now), Advice::Use);
    }

    #[test]
    fn a_locked_user_ends_the_logins_at_once() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        latch.locked(&secret("1"), now);
        assert!(!latch.permits(&secret("1")));
        assert_eq!(latch.advise(&secret("1"), now), Advice::GiveUp);
    }

    #[test]
    fn one_request_in_ten_seconds_may_ask_whether_the_secret_has_changed() {
        let (mut latch, start) = (Latch::default(), Instant::now());
        latch.locked(&secret("1"), start);
        let later = start + LATCH_RECHECK;
        assert_eq!(latch.advise(&secret("1"), later), Advice::AskAgain);
        assert_eq!(latch.advise(&secret("1"), later), Advice::GiveUp);
        let much_later = later + LATCH_RECHECK;
        assert_eq!(latch.advise(&secret("1"), much_later), Advice::AskAgain);
        assert!(!latch.permits(&secret("1")), "however long it takes");
    }

    fn secret(version: &str) -> Secret {
        let pin = Pin::new(Zeroizing::new("user:password".to_owned()));
        Secret { id: "secret".into(), version: version.into(), pin }
    }
}
