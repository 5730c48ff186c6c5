//! How connections begin.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::PollFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockAddr;
use tests::vsock::{
    ANY, LOCAL, OWN, accept, connect, connect_timeout, is_ready, listen, pair, port, read_to_end,
    set_connect_timeout, socket,
};
use tests::world::World;
use tunnel::listener::Listener;

crate::scenarios![
    where_nobody_listens_a_connection_is_reset_at_once,
    connect_waits_two_seconds_unless_told,
    a_full_backlog_resets,
    a_connection_is_complete_before_it_is_accepted,
    low_ports_need_the_first_user_namespace,
    nothing_but_the_own_cid_needs_dev_vsock,
    a_port_has_one_listener,
    a_connection_stays_queued_while_descriptors_are_out,
    loopback_is_cid_one_whichever_way_it_goes,
    only_the_own_cid_can_be_bound,
];

/// V2: not ECONNREFUSED.
fn where_nobody_listens_a_connection_is_reset_at_once(_: &World) {
    for cid in [LOCAL, OWN] {
        let start = Instant::now();
        let error = connect(cid, port()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        // Sooner than it would give up by itself.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

/// V2 and V4, at a CID that nobody has. It is ours to say, also for a socket that does not block.
fn connect_waits_two_seconds_unless_told(_: &World) {
    let to = SockAddr::vsock(ABSENT, 5000);
    assert_eq!(connect_timeout(&socket()), Duration::from_secs(2));
    let by_default = time_out(|| socket().connect(&to).unwrap_err());
    assert!(by_default >= Duration::from_secs(2), "{by_default:?}");

    let told = || {
        let socket = socket();
        set_connect_timeout(&socket, Duration::from_millis(100));
        socket.connect(&to).unwrap_err()
    };
    let endpoint = format!("vsock:{ABSENT}:5000").parse().unwrap();
    let ours = || {
        let connecting = tunnel::connect::connect(&endpoint, Duration::from_millis(100));
        runtime().block_on(connecting).unwrap_err()
    };
    for connect in [&told as &dyn Fn() -> io::Error, &ours] {
        // The machine may have had other work meanwhile.
        let waited = (0..3).map(|_| time_out(connect)).min().unwrap();
        // The kernel counts in ticks of 4 ms, of which the first has begun already.
        assert!((0.095..1.5).contains(&waited.as_secs_f64()), "{waited:?}");
    }
}

/// How long it takes until a connect(2) gives up.
fn time_out(connect: impl Fn() -> io::Error) -> Duration {
    let start = Instant::now();
    assert_eq!(connect().raw_os_error(), Some(libc::ETIMEDOUT));
    start.elapsed()
}

/// V3: TCP would let it wait. One more is admitted than was asked for.
fn a_full_backlog_resets(_: &World) {
    let port = port();
    let listener = listen(ANY, port, 4).unwrap();
    let waiting: Vec<_> = (0..5).map(|_| connect(OWN, port).unwrap()).collect();
    assert_eq!(connect(OWN, port).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    drop(accept(&listener));
    connect(OWN, port).unwrap();
    drop(waiting);
}

/// V5: "connected" proves nothing.
fn a_connection_is_complete_before_it_is_accepted(_: &World) {
    let port = port();
    let listener = listen(ANY, port, 4).unwrap();
    let mut client = connect(OWN, port).unwrap();
    client.write_all(b"hello?").unwrap();
    drop(listener);
    assert_eq!(read_to_end(&mut client), (vec![], None));
}

/// V11: here we are root, but only of a user namespace.
fn low_ports_need_the_first_user_namespace(_: &World) {
    assert!(nix::unistd::getuid().is_root());
    let error = listen(ANY, 1023, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    listen(ANY, 1024, 1).unwrap();
    let said = refusal("vsock:any:1023");
    assert!(said.contains("need CAP_NET_BIND_SERVICE"), "{said}");
}

/// V11: so its mode protects nothing.
fn nothing_but_the_own_cid_needs_dev_vsock(_: &World) {
    assert_eq!(tunnel::vsock::local_cid().map(tunnel::endpoint::Cid::get), Some(OWN));
    mount(None::<&str>, "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert_eq!(tunnel::vsock::local_cid(), None);
    let (mut client, mut server) = pair();
    client.write_all(b"through").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), (b"through".to_vec(), None));
}

/// V12: nor does SO_REUSEPORT help, whether it can be set or not.
fn a_port_has_one_listener(_: &World) {
    let port = port();
    let first = listen(ANY, port, 1).unwrap();
    let second = socket();
    let _ = first.set_reuse_port(true);
    let _ = second.set_reuse_port(true);
    let error = second.bind(&SockAddr::vsock(ANY, port)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    drop(first);
    listen(ANY, port, 1).unwrap();
}

/// V13: so whoever loops takes a core.
fn a_connection_stays_queued_while_descriptors_are_out(_: &World) {
    let port = port();
    let listener = listen(ANY, port, 4).unwrap();
    let _client = connect(OWN, port).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    for _ in 0..3 {
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert!(is_ready(&listener, PollFlags::POLLIN, Duration::ZERO));
    }
    hoard.pop();
    listener.accept().unwrap();
}

/// V15: and no other machine is.
fn loopback_is_cid_one_whichever_way_it_goes(_: &World) {
    for cid in [LOCAL, OWN] {
        let port = port();
        let listener = listen(ANY, port, 1).unwrap();
        let _client = connect(cid, port).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.as_vsock_address().unwrap().0, LOCAL, "by CID {cid}");
    }
}

/// V16.
fn only_the_own_cid_can_be_bound(_: &World) {
    for cid in [0, 2, ABSENT] {
        let error = listen(cid, port(), 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "CID {cid}");
    }
    let said = refusal(&format!("vsock:{ABSENT}:5000"));
    assert!(said.contains("write `vsock:any:<port>`"), "{said}");
    for (first, second) in [(ANY, OWN), (OWN, ANY)] {
        let port = port();
        let _first = listen(first, port, 1).unwrap();
        let error = listen(second, port, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{second} beside {first}");
    }
}

/// What our listener says of an endpoint that it cannot have.
fn refusal(endpoint: &str) -> String {
    let runtime = runtime();
    let _entered = runtime.enter();
    let error = Listener::bind(&endpoint.parse().unwrap()).unwrap_err();
    assert!(error.source().is_some());
    error.to_string()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A CID that no machine has.
const ABSENT: u32 = 77;
