//! Links lead somewhere, and paths are those of files.

use std::path::{Component, Path, PathBuf};

use super::markdown::Markdown;
use super::{documents, read, root};

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for document in documents() {
        let markdown = Markdown::parse(&read(&document));
        for link in markdown.links.iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { beside(&document, path) };
            assert!(root().join(&target).exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let known = Markdown::parse(&read(&target)).anchors().any(|known| known == anchor);
                assert!(known, "{}: {link} has no such heading", document.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} links");
}

#[test]
fn every_path_of_this_repository_that_is_named_is_there() {
    const TOP: &[&str] = &["configs", "docs", "fuzz", "packages", "tests"];
    let mut checked = 0;
    for document in documents() {
        for span in Markdown::parse(&read(&document)).spans {
            let is_path =
                span.chars().all(|char| char.is_ascii_alphanumeric() || "/._-@".contains(char));
            if is_path && TOP.iter().any(|top| span.starts_with(&format!("{top}/"))) {
                assert!(root().join(&span).exists(), "{}: `{span}`", document.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} paths");
}

/// A path as a document at another one names it.
fn beside(document: &Path, path: &str) -> PathBuf {
    let mut target = document.parent().unwrap().to_path_buf();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => assert!(target.pop(), "`{path}` leads out of the repository"),
            component => target.push(component),
        }
    }
    target
}
