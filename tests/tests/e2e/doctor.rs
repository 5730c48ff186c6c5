//! What the doctors of both proxies find, and what they say to do.

pub(crate) mod inproxy;
pub(crate) mod machine;
pub(crate) mod upstreams;

use std::fs;
use std::process::{Command, Output, Stdio};

use boon::{Compiler, Schemas};
use serde_json::Value;
use tests::proxies::binary;
use tests::world::World;

/// The doctor of an outproxy with this configuration, which need not run.
fn outproxy(world: &World, config: &str) -> Command {
    fs::write(world.directory().join("outproxy.toml"), config).unwrap();
    ask_outproxy(world)
}

/// The doctor of the outproxy that is configured by what was written last.
fn ask_outproxy(world: &World) -> Command {
    let mut command = Command::new(binary("outproxy"));
    command.args(["doctor", "--json", "--config"]).arg(world.directory().join("outproxy.toml"));
    command.stdin(Stdio::null());
    // Only where a test says so there is somebody to ask, or not.
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    command
}

/// What a doctor found.
struct Examination {
    document: Value,
    code: Option<i32>,
}

impl Examination {
    /// Runs a command that prints JSON.
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}\n{}", text(&output)));
        assert_valid(&document);
        Self { document, code: output.status.code() }
    }

    fn findings(&self) -> &[Value] {
        self.document["findings"].as_array().unwrap()
    }

    /// The finding of this subject, which must be the only one.
    fn find(&self, subject: &str) -> &Value {
        let mut found = self.findings().iter().filter(|finding| finding["subject"] == subject);
        let first = found.next().unwrap_or_else(|| panic!("`{subject}` in {:#}", self.document));
        assert!(found.next().is_none(), "more than one `{subject}` in {:#}", self.document);
        first
    }

    /// That the subject has this result, and this problem if it has any. Whoever has one is told
    /// what to do.
    fn assert(&self, subject: &str, result: &str, problem: Option<&str>) -> &Value {
        let finding = self.find(subject);
        let found = (finding["result"].as_str().unwrap(), finding["problem"].as_str());
        assert_eq!(found, (result, problem), "{finding:#}");
        assert_eq!(finding["advice"].is_string(), problem.is_some(), "{finding:#}");
        finding
    }
}

/// That it is as docs/doctor.schema.json says, and has no word or member that does not stand there.
fn assert_valid(document: &Value) {
    const FILE: &str = "doctor.schema.json";
    let schema = include_str!("../../../docs/doctor.schema.json");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource(FILE, serde_json::from_str(schema).unwrap()).unwrap();
    let index = compiler.compile(FILE, &mut schemas).unwrap();
    let valid = schemas.validate(document, index);
    valid.unwrap_or_else(|error| panic!("{error}: {document:#}"));
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
