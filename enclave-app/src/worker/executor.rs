//! What does the actions, one at a time.

use std::sync::Arc;

use cryptoki::session::Session;
use protocol::action::{Action, Outcome, Random, Randomized};
use protocol::answer::Code;

use crate::wire::Fault;

use super::fault::Trouble;
use super::module::Module;

/// A session that is logged in.
pub(super) struct Executor {
    pub(super) session: Session,
    pub(super) module: Arc<Module>,
}

impl Executor {
    pub(super) const fn new(session: Session, module: Arc<Module>) -> Self {
        Self { session, module }
    }

    pub(super) fn run(&mut self, action: &Action) -> Result<Outcome, Fault> {
        let result = match action {
            Action::CreateKey(spec) => self.create(spec).map(Outcome::CreateKey),
            Action::Decrypt(decrypt) => self.decrypt(decrypt).map(Outcome::Decrypt),
            Action::DeleteKey(by) => self.delete(&by.label).map(Outcome::DeleteKey),
            Action::Encrypt(encrypt) => self.encrypt(encrypt).map(Outcome::Encrypt),
            Action::GetKey(by) => self.key(&by.label).map(|key| Outcome::GetKey(key.describe())),
            Action::ListKeys(_) => self.list().map(Outcome::ListKeys),
            Action::Random(random) => self.random(random).map(Outcome::Random),
            Action::Sign(sign) => self.sign(sign).map(Outcome::Sign),
            Action::Verify(verify) => self.verify(verify).map(Outcome::Verify),
            Action::Describe(_) | Action::Echo(_) => {
                Err(Trouble::refused(Code::Internal, "the worker has no such action"))
            }
        };
        result.map_err(|trouble| {
            self.renew(&trouble);
            trouble.into()
        })
    }

    /// Takes another session if this may have been left in the midst of an operation.
    fn renew(&mut self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Module(_)) && trouble.is_survivable() {
            // The new one comes first: with the last session the login would go.
            if let Ok(session) = self.module.session() {
                self.session = session;
            }
        }
    }

    fn random(&self, random: &Random) -> Result<Randomized, Trouble> {
        if !(1..=MAX_RANDOM).contains(&random.bytes) {
            let message = format!("1 to {MAX_RANDOM} random bytes can be had at once");
            return Err(Trouble::refused(Code::InvalidRequest, message));
        }
        let bytes = self.session.generate_random_vec(random.bytes.into())?;
        Ok(Randomized { bytes: bytes.into() })
    }
}

const MAX_RANDOM: u16 = 1024;
