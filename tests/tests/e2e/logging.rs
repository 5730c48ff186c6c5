//! What the other end says does not hurt whoever reads the log, and does not fill it.

use std::io::{Read, Write};
use std::thread;
use std::time::Instant;

use tests::peers::assert_connect_resets;
use tests::world::{HSM, World};

crate::scenarios![hostile_answers_make_few_short_lines];

/// The parent may be anybody's.
fn hostile_answers_make_few_short_lines(world: &World) {
    let listener = world.leg.bind(0).unwrap();
    let parent = thread::spawn(move || {
        for number in 0..ANSWERS {
            let (mut client, _) = listener.accept().unwrap();
            // It may be gone before it has heard all of that.
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(&answer(number));
        }
    });
    let inproxy = world.inproxy(&world.inproxy_config(""));
    let began = Instant::now();
    for _ in 0..ANSWERS {
        assert_connect_resets(&world.enclave, HSM);
    }
    parent.join().unwrap();
    let failed = inproxy.line("a count of the others", |line| {
        line["message"] == "failures not logged in the last second"
    });
    assert!(failed["lines"].as_u64().unwrap() > 0);
    let most = 11 * (began.elapsed().as_secs() + 2) + 10;
    let logged = inproxy.logged();
    assert!((logged.len() as u64) < most, "{} lines: {logged:?}", logged.len());
    for line in &logged {
        let values = line.as_object().unwrap().values().filter_map(|value| value.as_str());
        for value in values {
            assert!(value.len() < 500, "{line}");
            assert!(value.chars().all(|char| matches!(char, ' '..='~' | '…')), "{line:?}");
        }
    }
}

fn answer(number: usize) -> Vec<u8> {
    let reason = match number % 5 {
        0 => format!("\x1b[2J{number}"),
        1 => "x".repeat(7000),
        2 => format!("\u{202e}{number}\u{200b}\u{9b}31m"),
        3 => format!("\u{feff}{number}\t\"outcome=finished"),
        _ => return [b"HTTP/1.1 \xff\xfe\x1b\r\n\r\n".as_slice(), &[0x1b; 5000]].concat(),
    };
    format!("HTTP/1.1 502 {reason}\r\nProxy-Status: outproxy; details=\"{reason}\"\r\n\r\n")
        .into_bytes()
}

/// Many more than are logged in a second.
const ANSWERS: usize = 200;
