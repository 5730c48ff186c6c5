//! /etc/hosts where it cannot be replaced, or not written.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod namespaces;

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inproxy::hosts::{HostsError, install};
use namespaces::run_below;
use nix::mount::{MsFlags, mount};
use tunnel::host::DnsName;

const MOUNTS: &[&str] = &["unshare", "-Urm"];

const HSM: &str = "127.1.2.3 hsm.example # added by inproxy\n";

#[test]
fn a_bind_mount_is_rewritten_in_place() {
    run_below(MOUNTS, "a_bind_mount_is_rewritten_in_place", || {
        let directory = tempfile::tempdir().unwrap();
        let [hosts, docker] = ["hosts", "docker"].map(|name| directory.path().join(name));
        fs::write(&hosts, "").unwrap();
        fs::write(&docker, "10.0.0.1 container\n").unwrap();
        bind(&docker, &hosts);
        let inode = fs::metadata(&hosts).unwrap().ino();

        install(&hosts, &entries(1)).unwrap();
        assert_eq!(read(&docker), format!("{HSM}10.0.0.1 container\n"));
        install(&hosts, &[]).unwrap();
        assert_eq!(read(&docker), "10.0.0.1 container\n");
        assert_eq!(fs::metadata(&hosts).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    });
}

#[test]
fn a_writable_file_in_a_read_only_directory_is_rewritten_in_place() {
    let test = "a_writable_file_in_a_read_only_directory_is_rewritten_in_place";
    run_below(MOUNTS, test, || {
        let directory = tempfile::tempdir().unwrap();
        let etc = tmpfs(directory.path(), "64k");
        let docker = env::temp_dir().join("docker");
        fs::write(etc.join("hosts"), "").unwrap();
        fs::write(&docker, "10.0.0.1 container\n").unwrap();
        bind(&docker, &etc.join("hosts"));
        make_read_only(etc);

        install(&etc.join("hosts"), &entries(1)).unwrap();
        assert_eq!(read(&docker), format!("{HSM}10.0.0.1 container\n"));
    });
}

#[test]
fn a_full_disk_costs_no_line() {
    run_below(MOUNTS, "a_full_disk_costs_no_line", || {
        let directory = tempfile::tempdir().unwrap();
        let etc = tmpfs(directory.path(), "8k");
        let hosts = etc.join("hosts");
        fs::write(&hosts, "10.0.0.1 container\n").unwrap();

        let HostsError::Write { source, .. } = install(&hosts, &entries(250)).unwrap_err() else {
            panic!("not a failed write");
        };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert_eq!(read(&hosts), "10.0.0.1 container\n");
        assert_eq!(fs::read_dir(etc).unwrap().count(), 1);
    });
}

#[test]
fn a_full_disk_costs_no_line_of_a_bind_mount() {
    run_below(MOUNTS, "a_full_disk_costs_no_line_of_a_bind_mount", || {
        let directory = tempfile::tempdir().unwrap();
        let [hosts, disk] = ["hosts", "disk"].map(|name| directory.path().join(name));
        fs::write(&hosts, "").unwrap();
        fs::create_dir(&disk).unwrap();
        let docker = tmpfs(&disk, "8k").join("docker");
        let old = "10.0.0.1 container\n".repeat(300);
        fs::write(&docker, &old).unwrap();
        bind(&docker, &hosts);

        let error = install(&hosts, &entries(250)).unwrap_err();
        assert!(matches!(error, HostsError::Write { .. }), "{error:?}");
        assert_eq!(read(&docker), old);
    });
}

#[test]
fn a_read_only_file_system_is_named() {
    run_below(MOUNTS, "a_read_only_file_system_is_named", || {
        let directory = tempfile::tempdir().unwrap();
        let etc = tmpfs(directory.path(), "64k");
        let hosts = etc.join("hosts");
        fs::write(&hosts, format!("{HSM}::1 localhost\n")).unwrap();
        make_read_only(etc);

        install(&hosts, &entries(1)).expect("there is nothing to write");
        for path in [&hosts, &etc.join("absent"), &etc.join("etc/hosts")] {
            let error = install(path, &entries(2)).unwrap_err();
            assert!(matches!(error, HostsError::ReadOnly { .. }), "{error:?}");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        assert_eq!(read(&hosts), format!("{HSM}::1 localhost\n"));
    });
}

#[test]
fn a_file_whose_owner_cannot_be_kept_is_rewritten_in_place() {
    // Without a mapping no user has a number in the namespace, so nothing can be given to anybody.
    let test = "a_file_whose_owner_cannot_be_kept_is_rewritten_in_place";
    run_below(&["unshare", "-U"], test, || {
        let directory = tempfile::tempdir().unwrap();
        let hosts = directory.path().join("hosts");
        fs::write(&hosts, "::1 localhost\n").unwrap();
        let inode = fs::metadata(&hosts).unwrap().ino();

        install(&hosts, &entries(1)).unwrap();
        assert_eq!(read(&hosts), format!("{HSM}::1 localhost\n"));
        assert_eq!(fs::metadata(&hosts).unwrap().ino(), inode);
    });
}

fn entries(count: u8) -> Vec<(IpAddr, DnsName)> {
    let rest = (1..count).map(|n| (Ipv4Addr::new(127, 2, 0, n), format!("hsm{n}.example")));
    [(Ipv4Addr::new(127, 1, 2, 3), "hsm.example".to_owned())]
        .into_iter()
        .chain(rest)
        .map(|(ip, name)| (ip.into(), name.parse().unwrap()))
        .collect()
}

fn bind(source: &Path, target: &Path) {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn tmpfs<'a>(target: &'a Path, size: &str) -> &'a Path {
    let options = format!("size={size}");
    let kind = Some("tmpfs");
    mount(kind, target, kind, MsFlags::empty(), Some(&*options)).unwrap();
    target
}

fn make_read_only(target: &Path) {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>).unwrap();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
