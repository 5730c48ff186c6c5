//! What others on the machine can see of it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::app::proc;
use crate::canary::{self, PASSWORD};
use crate::keys::request;
use crate::vault::Vault;

#[test]
fn neither_it_nor_its_worker_shows_its_memory_or_dumps_a_core() {
    let mut vault = Vault::new("");
    // Of root's processes all files are root's.
    vault.place.drop_privileges();
    let app = vault.place.serve();
    let create = request("create-key", &json!({"label": "k"}));
    let answer = vault.place.client().ask(&create);
    assert!(answer["error"].is_null(), "{answer}");
    for pid in [app.pid(), app.worker()] {
        for file in ["environ", "maps", "mem"] {
            assert_eq!(fs::metadata(proc(pid, file)).unwrap().uid(), 0, "{file}");
        }
        let limits = fs::read_to_string(proc(pid, "limits")).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let columns: Vec<_> = cores.split_whitespace().skip(4).take(2).collect();
        assert_eq!(columns, ["0", "0"], "the soft and the hard limit");
    }
}

#[test]
fn no_secret_is_in_a_log_an_environment_or_an_argument() {
    for format in ["text", "json"] {
        let vault = Vault::new(&format!("[log]\nlevel = 'trace'\nformat = '{format}'"));
        let is_json = format == "json";
        let mut app = if is_json { vault.place.serve_json() } else { vault.place.serve() };
        let mut client = vault.place.client();
        let create = request("create-key", &json!({"label": "k", "kind": "hmac-256"}));
        let answer = client.ask(&create);
        assert!(answer["error"].is_null(), "{answer}");
        let sign = request("sign", &json!({"label": "k", "message": STANDARD.encode(PASSWORD)}));
        assert!(client.ask(&sign)["error"].is_null());
        // What is refused might be shown.
        for wrong in ["create-key", "no-such"] {
            client.ask_in_vain(&request(wrong, &json!({"label": 7, "x": PASSWORD})));
        }
        client.ask_in_vain(&create.replace("\"secret-access-key\":", "\"secret-access-key\":["));
        for pid in [app.pid(), app.worker()] {
            for file in ["environ", "cmdline"] {
                canary::assert_absent(&String::from_utf8_lossy(&visible(&proc(pid, file))));
            }
        }
        app.signal(Signal::SIGTERM);
        assert!(app.wait().success());
        let log = app.logged();
        assert!(log.contains("TRACE"), "the SDK's own lines are there");
        canary::assert_absent(&log);
    }
}

/// The content of a file, as far as it may be seen.
fn visible(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Vec::new(),
        content => content.unwrap(),
    }
}
