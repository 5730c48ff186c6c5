//! What the command says about itself.

use crate::run::Run;

fn say(args: &[&str]) -> String {
    let ran = Run::new("unix:/nonexistent", args).wait();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.text().to_owned()
}

#[test]
fn the_help_explains_actions_endings_and_examples() {
    let help = say(&["--help"]);
    for words in
        ["create-key", "--wait", "Examples:", "Exit status:", "nitro-cli describe-enclaves"]
    {
        assert!(help.contains(words), "{words}");
    }
}

#[test]
fn the_manual_page_has_every_action_and_option() {
    let page = say(&["man"]);
    for words in [
        ".TH host-client 1",
        ".SH EXAMPLES",
        ".SH \"EXIT STATUS\"",
        r".SS create\-key",
        r"\-\-aad\-file",
        r"\-\-credentials",
        r"\-\-label nitro\-enclave\-1",
        ".SH \"SEE ALSO\"",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
}

#[test]
fn shells_can_complete_it() {
    for (shell, words) in [
        ("bash", " host-client\n"),
        ("fish", "complete -c host-client"),
        ("zsh", "#compdef host-client"),
    ] {
        assert!(say(&["completions", shell]).contains(words), "{shell}");
    }
}
