//! What the documents say exists, and what exists is documented: commands, keys of configurations,
//! words of the doctors, alerts, links. Metrics and keys of the log are held where they are made, in
//! outproxy/tests/admin.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alerts;
mod commands;
mod doctor;
mod help;
mod keys;
mod links;
mod markdown;

use std::fs;
use std::path::{Path, PathBuf};

/// The text of a file of this repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// All documents in Markdown, by their paths from the root.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    for directory in ["", "docs"].map(Path::new) {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            documents.push(directory.join(entry.unwrap().file_name()));
        }
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(documents.len() > 8, "{documents:?}");
    documents
}
