//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch `descriptor`, for no more than `interest`.
///
/// # Errors
///
/// What epoll_ctl(2) answers.
pub(crate) fn watch<T: AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(deprecated, reason = "unsound only for a type that may close its descriptor early")]
    AsyncFd::with_interest(descriptor, interest)
}
