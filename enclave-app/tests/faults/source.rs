//! A source of PINs with a script.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use enclave_app::pin::{Pin, PinSource, Secret};
use protocol::answer::Failure;
use zeroize::Zeroizing;

/// Versions of a secret, one after the other: whoever asks for what comes after the present one
/// gets the next, if there is one.
#[derive(Debug)]
pub(crate) struct Source {
    versions: Mutex<Vec<Arc<Secret>>>,
    present: AtomicUsize,
    asked: AtomicUsize,
}

impl Source {
    pub(crate) fn new(versions: &[(&str, &str)]) -> Self {
        let source = Self {
            versions: Mutex::default(),
            present: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        };
        for (version, pin) in versions {
            source.rotate(version, pin);
        }
        source
    }

    /// One more version, which shows when the secret is next asked for anew.
    pub(crate) fn rotate(&self, version: &str, pin: &str) {
        self.versions().push(Arc::new(Secret {
            id: "secret".into(),
            version: version.into(),
            pin: Pin::new(Zeroizing::new(pin.into())),
        }));
    }

    /// How often it was asked for the secret as it is now.
    pub(crate) fn times_asked_anew(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Secret>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> Arc<Secret> {
        Arc::clone(&self.versions()[self.present.load(Ordering::Relaxed)])
    }
}

impl PinSource for Source {
    async fn current(&self) -> Result<Arc<Secret>, Failure> {
        tokio::task::yield_now().await;
        Ok(self.present())
    }

    async fn after(&self, refused: &Secret) -> Result<Arc<Secret>, Failure> {
        tokio::task::yield_now().await;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let present = self.present();
        if present.version == refused.version {
            let last = self.versions().len() - 1;
            self.present.store(last, Ordering::Relaxed);
        }
        Ok(self.present())
    }
}
