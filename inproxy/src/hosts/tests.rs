use super::*;
use proptest::prelude::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const HSM: &str = "127.1.2.3 hsm.example # added by inproxy\n";

fn entries(texts: &[(&str, &str)]) -> Vec<(IpAddr, DnsName)> {
    texts.iter().map(|(ip, name)| (ip.parse().unwrap(), name.parse().unwrap())).collect()
}

fn hsm() -> Vec<(IpAddr, DnsName)> {
    entries(&[("127.1.2.3", "hsm.example")])
}

/// An empty directory, and the path of a hosts file in it.
fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    (directory, path)
}

#[test]
fn our_lines_come_first_and_replace_those_of_the_last_time() {
    let old = b"127.0.0.1 localhost\n127.9.9.9 old.example # added by inproxy\r\n::1 localhost";
    let new = edit(old, &hsm());
    assert_eq!(String::from_utf8(new).unwrap(), format!("{HSM}127.0.0.1 localhost\n::1 localhost"));
}

#[test]
fn a_comment_about_us_is_not_our_line() {
    let old = "# added by inproxy: nothing\n10.0.0.1 a # added by inproxy's owner\n";
    assert_eq!(edit(old.as_bytes(), &[]), old.as_bytes());
}

#[test]
fn other_addresses_of_our_names_are_found() {
    let file = b"10.0.0.1 a HSM.example. # hsm.example\n127.1.2.3 hsm.example\n\xff hsm.example\n\
        # 10.0.0.2 hsm.example\n10.0.0.3 xhsm.example\n127.9.9.9 hsm.example # added by inproxy\n";
    let entries = hsm();
    let addresses: Vec<_> = rivals(file, &entries).into_iter().map(|r| r.0).collect();
    assert_eq!(addresses, ["10.0.0.1", "\u{fffd}"]);
}

#[test]
fn an_inspection_tells_what_is_missing_and_what_contradicts() {
    let (_directory, path) = directory();
    let inspected = || inspect(&path, &hsm()).unwrap();
    assert_eq!(inspected().missing, hsm());
    for (text, missing, rivals) in [
        (HSM, 0, 0),
        ("127.1.2.3 other HSM.example.\n", 0, 0),
        ("127.1.2.4 hsm.example # added by inproxy\n", 1, 0),
        ("# 127.1.2.3 hsm.example\n10.0.0.1 hsm.example\n", 1, 1),
    ] {
        fs::write(&path, text).unwrap();
        let Inspection { missing: found, rivals: others } = inspected();
        assert_eq!((found.len(), others.len()), (missing, rivals), "{text}");
    }
}

#[test]
fn a_missing_file_is_created_with_its_directory_and_localhost() {
    let (directory, _) = directory();
    let path = directory.path().join("etc/hosts");
    install(&path, &hsm()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HSM}127.0.0.1 localhost\n"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn nothing_to_say_creates_nothing() {
    let (_directory, path) = directory();
    install(&path, &[]).unwrap();
    assert!(!path.exists());
}

#[test]
fn the_file_keeps_its_mode_and_nothing_is_left_beside_it() {
    let (directory, path) = directory();
    fs::write(&path, "::1 localhost\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
    install(&path, &hsm()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn the_file_is_replaced_once_and_then_left_alone() {
    let (_directory, path) = directory();
    fs::write(&path, "::1 localhost\n").unwrap();
    let inode = || fs::metadata(&path).unwrap().ino();
    let before = fs::File::open(&path).unwrap();
    install(&path, &hsm()).unwrap();
    assert_ne!(inode(), before.metadata().unwrap().ino());

    let after = fs::File::open(&path).unwrap();
    install(&path, &hsm()).unwrap();
    assert_eq!(inode(), after.metadata().unwrap().ino());
}

#[test]
fn links_stay_links() {
    let (directory, path) = directory();
    let target = directory.path().join("run/hosts");
    for link in ["run/hosts", "../run/hosts"] {
        let path = directory.path().join("etc").join(link.replace('/', "-"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(path.parent().unwrap().join("run")).unwrap();
        symlink(link, &path).unwrap();
        install(&path, &hsm()).unwrap();
        assert!(path.is_symlink(), "{link}");
        assert!(fs::read_to_string(&path).unwrap().starts_with(HSM), "{link}");
    }
    symlink(&target, &path).unwrap();
    install(&path, &[]).unwrap();
    assert!(path.is_symlink() && !fs::read_to_string(&target).unwrap().contains(HSM));
}

#[test]
fn what_is_no_file_is_left_alone() {
    let (_directory, path) = directory();
    symlink("/dev/null", &path).unwrap();
    let error = install(&path, &hsm()).unwrap_err();
    assert_eq!(error.to_string(), "failed to read `/dev/null`");
}

#[test]
fn links_in_a_circle_are_an_error() {
    let (_directory, path) = directory();
    symlink("hosts", &path).unwrap();
    assert!(install(&path, &hsm()).is_err());
}

fn some_entries() -> impl Strategy<Value = Vec<(IpAddr, DnsName)>> {
    let entry = (any::<IpAddr>(), "[a-z]{1,10}(\\.[a-z]{1,5})?")
        .prop_map(|(ip, name)| (ip, name.parse().unwrap()));
    prop::collection::vec(entry, 0..5)
}

fn some_file() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "(127\\.1\\.2\\.3 a)? ?# added by inproxy\r?".prop_map(String::into_bytes),
    ];
    prop::collection::vec(line, 0..10).prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #[test]
    fn the_lines_of_others_are_kept(old in prop::collection::vec(any::<u8>(), 0..200), entries in some_entries()) {
        let new = edit(&old, &entries);
        prop_assert!(new.ends_with(&old));
        prop_assert_eq!(edit(&new, &[]), old);
    }

    #[test]
    fn only_the_last_edit_counts(old in some_file(), one in some_entries(), two in some_entries()) {
        prop_assert_eq!(edit(&edit(&old, &one), &two), edit(&old, &two));
    }

    #[test]
    fn a_file_cut_anywhere_gets_our_lines_again(old in some_file(), entries in some_entries(), cut: prop::sample::Index) {
        let new = edit(&old, &entries);
        let cut = &new[..cut.index(new.len() + 1)];
        let ours = edit(&[], &entries);
        prop_assert!(edit(cut, &entries).starts_with(&ours));
    }
}
