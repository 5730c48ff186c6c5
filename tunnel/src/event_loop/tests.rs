use std::future::{pending, poll_fn};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::buffer::Buffer;
use crate::stream::{Kind, Stream};

const PATIENCE: Duration = Duration::from_secs(10);

/// On an event loop, and on tokio's.
fn everywhere<T: PartialEq + std::fmt::Debug>(test: impl AsyncFn() -> T, expected: &T) {
    assert_eq!(run(async { timeout(PATIENCE, test()).await }).unwrap().as_ref(), Ok(expected));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(async { timeout(PATIENCE, test()).await }).as_ref(), Ok(expected));
}

fn pair() -> (UnixStream, Stream) {
    let (peer, socket) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    (peer, Stream::new(socket.into(), Kind::Unix).unwrap())
}

async fn read(stream: &mut Stream) -> Buffer {
    poll_fn(|cx| stream.poll_read_buffer(cx)).await.unwrap()
}

#[test]
fn the_end_of_a_stream_is_seen_that_came_with_the_last_bytes() {
    let last_words = async || {
        let (mut peer, mut stream) = pair();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        (read(&mut stream).await.filled().to_vec(), read(&mut stream).await.is_empty())
    };
    everywhere(last_words, &(b"bye".to_vec(), true));
}

#[test]
fn what_another_thread_says_later_is_heard() {
    let heard = async || {
        let (mut peer, mut stream) = pair();
        let (begin, begun) = mpsc::channel();
        let speaking = thread::spawn(move || {
            begun.recv().unwrap();
            peer.write_all(b"one").unwrap();
            peer.read_exact(&mut [0]).unwrap();
            peer.write_all(b"two").unwrap();
            peer
        });
        let reading = poll_fn(|cx| {
            let polled = stream.poll_read_buffer(cx);
            // Now somebody waits.
            let _ = begin.send(());
            polled
        });
        let first = reading.await.unwrap().filled().to_vec();
        stream.write_all(b"!").await.unwrap();
        let second = read(&mut stream).await.filled().to_vec();
        speaking.join().unwrap();
        (first, second)
    };
    everywhere(heard, &(b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn who_finds_no_room_goes_on_when_there_is_some() {
    const SIZE: usize = 4 << 20;
    let delivered = async || {
        let (mut peer, mut stream) = pair();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        stream.write_all(&vec![1; SIZE]).await.unwrap();
        drop(stream);
        reading.join().unwrap()
    };
    everywhere(delivered, &SIZE);
}

#[test]
fn what_is_reported_while_somebody_looks_is_not_forgotten() {
    run(async {
        let (peer, socket) = UnixStream::pair().unwrap();
        let watched = Watched::new(&socket, false).unwrap();
        (&peer).write_all(b"1").unwrap();
        let seen = poll_fn(|cx| watched.poll_readable(cx)).await;
        (&socket).read_exact(&mut [0]).unwrap();
        // Here it is empty; and here it is not any more.
        (&peer).write_all(b"2").unwrap();
        let (mut events, event_loop) = (Events::default(), current().unwrap());
        event_loop.sources.wait(&mut events, sources::Limit::None).unwrap();
        event_loop.sources.report(&events);
        watched.set_unreadable(seen);
        let seen = timeout(PATIENCE, poll_fn(|cx| watched.poll_readable(cx))).await.unwrap();
        watched.set_unreadable(seen);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(watched.poll_readable(&mut cx).is_pending(), "nothing came since");
    })
    .unwrap();
}

/// Whether a task that waits for a socket gets its turn beside `greedy`, which never waits.
async fn has_turn_beside(greedy: Task) -> bool {
    let (mut speaker, mut stream) = pair();
    let (sender, receiver) = oneshot::channel();
    spawn(async move {
        read(&mut stream).await;
        sender.send(()).unwrap();
    });
    speaker.write_all(b"now").unwrap();
    let had_turn = receiver.await.is_ok();
    greedy.stop().await;
    had_turn
}

#[test]
fn who_always_finds_something_to_read_lets_others_have_their_turn() {
    let reading = async || {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        peer.write_all(b"for ever").unwrap();
        has_turn_beside(Task::spawn(async move {
            let watched = Watched::new(&socket, false).unwrap();
            loop {
                poll_fn(|cx| watched.poll_readable(cx)).await;
            }
        }))
        .await
    };
    everywhere(reading, &true);
}

#[test]
fn who_always_finds_room_to_write_lets_others_have_their_turn() {
    let writing = async || {
        let (mut peer, mut stream) = pair();
        has_turn_beside(Task::spawn(async move {
            loop {
                stream.write_all(b"more").await.unwrap();
                peer.read_exact(&mut [0; 4]).unwrap();
            }
        }))
        .await
    };
    everywhere(writing, &true);
}

#[test]
fn timers_tasks_and_channels_of_tokio_wake_who_waits() {
    run(async {
        let (sender, receiver) = oneshot::channel();
        spawn(async move {
            sleep(Duration::from_millis(1)).await;
            sender.send(thread::current().id()).unwrap();
        });
        assert_eq!(receiver.await.unwrap(), thread::current().id());
        let elsewhere = tokio::spawn(async { thread::current().id() }).await.unwrap();
        assert_ne!(elsewhere, thread::current().id());
    })
    .unwrap();
}

/// Says when it was dropped.
struct Held(mpsc::Sender<&'static str>, &'static str);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send(self.1).unwrap();
    }
}

#[test]
fn a_task_that_is_stopped_has_dropped_all_that_it_held() {
    everywhere(
        async || {
            let (sender, dropped) = mpsc::channel();
            let hold = |name| {
                let held = Held(sender.clone(), name);
                Task::spawn(async move {
                    let _held = held;
                    pending::<()>().await;
                })
            };
            hold("stopped").stop().await;
            let first = dropped.try_recv();
            drop(hold("dropped"));
            while dropped.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            let brief = Task::spawn(async {});
            brief.ended().await;
            first
        },
        &Ok("stopped"),
    );
}

#[test]
fn what_is_left_is_dropped_with_the_loop() {
    let (sender, dropped) = mpsc::channel();
    /// Spawns when it is dropped.
    struct Last(Option<Held>);
    impl Drop for Last {
        fn drop(&mut self) {
            let held = self.0.take();
            spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
        }
    }
    run(async {
        let last = Last(Some(Held(sender.clone(), "last")));
        spawn(async move {
            let _last = last;
            pending::<()>().await;
        });
        // It may not even have begun.
        let held = Held(sender, "held");
        spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
    })
    .unwrap();
    assert_eq!(dropped.iter().collect::<Vec<_>>(), ["held", "last"]);
}

#[test]
fn a_task_may_be_woken_after_it_has_ended() {
    run(async {
        let (sender, receiver) = oneshot::channel();
        spawn(poll_fn({
            let mut sender = Some(sender);
            move |cx| {
                let _ = sender.take().unwrap().send(cx.waker().clone());
                Poll::Ready(())
            }
        }));
        let waker = receiver.await.unwrap();
        // Its slot is somebody else's by then.
        let (sender, receiver) = oneshot::channel();
        spawn(async move {
            sleep(Duration::from_millis(1)).await;
            sender.send(()).unwrap();
        });
        thread::spawn(move || waker.wake()).join().unwrap();
        receiver.await.unwrap();
    })
    .unwrap();
}
