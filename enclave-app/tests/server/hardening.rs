//! What others on the machine can see of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use crate::app::{App, Place};

#[test]
fn it_dumps_no_core() {
    let place = Place::with("");
    let app = place.serve();
    let limits = fs::read_to_string(app.proc("limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let columns: Vec<_> = cores.split_whitespace().skip(4).take(2).collect();
    assert_eq!(columns, ["0", "0"]);
}

#[test]
fn its_memory_and_environment_are_not_for_others_of_its_user() {
    let place = Place::with("");
    let mut command = place.command(&[]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Of root's processes all files are root's.
        chown(place.directory(), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(place.directory(), Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let app = App::start(&mut command);
    for file in ["environ", "mem", "maps"] {
        assert_eq!(fs::metadata(app.proc(file)).unwrap().uid(), 0, "{file}");
    }
    place.client().assert_served();
}

const NOBODY: u32 = 65_534;
