use proptest::prelude::*;

use super::*;

fn environment_of_tests(name: &str) -> Option<String> {
    (name == "REGION").then(|| "us-east-1".into())
}

fn read(text: &str) -> (Vec<Command>, Variables) {
    let mut variables = Variables::new(environment_of_tests);
    let mut mistakes = Mistakes::default();
    let commands = parse(text, 0..text.len(), &mut variables, &mut mistakes);
    assert!(mistakes.is_empty(), "{text}: {}", mistakes.report(text));
    (commands, variables)
}

fn words(text: &str) -> Vec<Vec<String>> {
    let texts = |command: Command| command.words.into_iter().map(|word| word.text).collect();
    read(text).0.into_iter().map(texts).collect()
}

#[test]
fn commands_are_cut_as_a_shell_does() {
    for (text, expected) in [
        ("a b\tc\n", &[&["a", "b", "c"][..]][..]),
        ("a 'b  \"c' \"d 'e\\\" \\f\" g\\ h\n", &[&["a", "b  \"c", "d 'e\" \\f", "g h"]]),
        ("a \\\n  b # c\n#d\n", &[&["a", "b"]]),
        ("a & b && c || d; e | f", &[&["a"], &["b"], &["c"], &["d"], &["e"], &["f"]]),
        ("if a; then b; fi\n", &[&["a"], &["b"]]),
        ("(a b) >c 2>&1 <d &>>e\n", &[&["a", "b"]]),
        ("a 2>/dev/null b#c 3\r\n", &[&["a", "b#c", "3"]]),
        ("a ''", &[&["a", ""]]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}

#[test]
fn a_command_knows_where_it_stands_and_where_its_output_goes() {
    let text = "# begin\n  echo 'x y' >> /etc/hosts\necho z | tee -a /etc/hosts\n";
    let (commands, _) = read(text);
    assert_eq!(&text[commands[0].at.clone()], "echo 'x y'");
    assert_eq!(&text[commands[0].words[1].at.clone()], "'x y'");
    assert_eq!(commands[0].output.as_ref().unwrap().text, "/etc/hosts");
    assert!(commands[1].is_piped && !commands[0].is_piped && !commands[2].is_piped);
}

#[test]
fn here_documents_belong_to_their_commands() {
    let text = "HOST=h\ncat >>/etc/hosts <<END\n1 $HOST\n2 b\nEND\ncat <<-'X' | tee a\n\t3\n\tX\nb <<< 4\n";
    let (commands, _) = read(text);
    let here: Vec<_> = commands.iter().map(|command| command.here.as_ref()).collect();
    let here: Vec<_> = here.iter().map(|here| here.map(|word| word.text.as_str())).collect();
    assert_eq!(here, [Some("1 h\n2 b\n"), Some("3\n"), None, Some("4")]);
    assert_eq!(&text[commands[0].here.as_ref().unwrap().at.clone()], "1 $HOST\n2 b\nEND\n");
}

#[test]
fn variables_stand_for_what_the_script_or_the_environment_says() {
    assert_eq!(words("A=1\nexport B=\"$A.2\"\nc ${B}3 '$B' \\$B\n"), [["c", "1.23", "$B", "$B"]]);
    assert_eq!(words("A=1 b\nA=2\nc $A"), [vec!["b"], vec!["c", "2"]]);
    let (commands, variables) = read("REGION=$(curl http://a | jq '.b')\nc kms.$REGION.x $100\n");
    let command = commands.last().unwrap();
    assert_eq!(command.words[1].text, "kms.us-east-1.x");
    assert_eq!(variables.borrowed().collect::<Vec<_>>(), [("REGION", "us-east-1")]);
}

#[test]
fn what_is_not_known_says_so() {
    for (text, expected) in [
        ("a $HSM", "`$HSM` is not known here; write `HSM=<value>` before this command"),
        ("a \"${HSM}:1\"", "`$HSM` is not known here"),
        ("HSM=$(dig +short hsm)\na $HSM", "`$HSM` is not known here"),
        ("for HSM in a b; do c; a $HSM; done", "`$HSM` is not known here"),
        ("a $(hostname -I)", "known only when the script runs"),
        ("a `hostname -I`", "known only when the script runs"),
        ("a ${HSM:-b}", "known only when the script runs"),
        ("a $1", "known only when the script runs"),
        ("a $@", "known only when the script runs"),
    ] {
        let mut mistakes = Mistakes::default();
        let (commands, _) = read(text);
        let command = commands.iter().find(|command| command.words[0].text == "a").unwrap();
        assert_eq!(command.words[1].known(&mut mistakes), None, "{text}");
        let report = mistakes.report(text).to_string();
        assert!(report.contains(expected), "{text}: {report}");
    }
}

#[test]
fn the_program_is_found_behind_others_and_in_other_shells() {
    for text in [
        "/usr/bin/socat a b",
        "sudo -E nohup socat a b &",
        "exec env X=1 socat a b",
        "X=1 socat a b",
        "bash -ce 'x; socat a \"b\"'",
        "/bin/sh -e -c \"Y=a; exec socat \\$Y b\"",
        "bash -ce \"Y=a; socat $${Y} b\"",
    ] {
        let (commands, _) = read(text);
        let command = commands.last().unwrap();
        let (program, arguments) = command.program().unwrap();
        let arguments: Vec<_> = arguments.iter().map(|word| word.text.as_str()).collect();
        assert_eq!((program, &arguments[..]), ("socat", &["a", "b"][..]), "{text}");
    }
    assert_eq!(words("bash /app/run.sh -c"), [["bash", "/app/run.sh", "-c"]]);
}

#[test]
fn a_quote_without_an_end_is_a_mistake() {
    for (text, line) in [("a\nb 'c\nd\n", 2), ("a \"b", 1), ("sh -c 'a \"b'", 1)] {
        let mut mistakes = Mistakes::default();
        let _ = parse(text, 0..text.len(), &mut Variables::new(|_| None), &mut mistakes);
        let report = mistakes.report(text);
        let lines: Vec<_> = report.iter().map(|mistake| mistake.line().unwrap()).collect();
        assert_eq!(lines, [line], "{text}");
        assert!(report.to_string().contains("has no end; write one"), "{report}");
    }
}

#[test]
fn values_that_grow_and_grow_take_no_memory() {
    let doubled = "A=$A$A\n".repeat(100);
    let (commands, _) = read(&format!("A=0123456789\n{doubled}echo $A $A $A\n"));
    let all: usize = commands[0].words.iter().map(|word| word.text.len()).sum();
    assert!(all < 100, "{all}");
    assert!(commands[0].words[1].unknown.is_some());
    let (commands, _) = read(&format!("A={}\necho {}\n", "x".repeat(1000), "$A ".repeat(100_000)));
    let all: usize = commands[0].words.iter().map(|word| word.text.len()).sum();
    assert!(all < 2 << 20, "{all}");
}

proptest! {
    #[test]
    fn any_text_has_an_end(text in "(\\PC|[ \n\\\\'\"$`(){}|&;<>#=]|<<E|\nE\n|sh -c ){0,40}") {
        let mut mistakes = Mistakes::default();
        let commands =
            parse(&text, 0..text.len(), &mut Variables::new(|_| None), &mut mistakes);
        for command in commands {
            prop_assert!(!command.words.is_empty());
            for word in &command.words {
                prop_assert!(text.is_char_boundary(word.at.start) && text.get(word.at.clone()).is_some());
            }
        }
        let _ = mistakes.report(&text);
    }
}
