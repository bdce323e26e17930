//! The documentation against what there is: links lead somewhere, every page is in the book, the page of the configuration is what its
//! schema says, and every command is run here or by somebody who is named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod aws;
mod commands;
mod configuration;
mod examples;
mod links;
mod man;
mod sentences;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all files below `folder` (`""`: everything), from the root on, without what is built and what git keeps.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}{}{name}", if folder.is_empty() { "" } else { "/" });
            if entry.file_type().unwrap().is_dir() {
                if ![".git", "target"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// What people read, by path: the book below `docs`, and the pages beside it.
fn pages() -> BTreeMap<String, String> {
    let pages = files("").into_iter().filter(|path| path.ends_with(".md"));
    let pages: BTreeMap<_, _> = pages.map(|path| (path.clone(), text(&path))).collect();
    assert!(
        pages.len() > 25,
        "only {} pages: are they still there?",
        pages.len()
    );
    pages
}

/// A fenced block of a page.
#[derive(Debug, PartialEq)]
struct Block {
    /// Of its opening fence, from 1 on.
    line: usize,
    /// What stands behind the fence.
    language: String,
    text: String,
}

/// The fenced blocks of a page, without the blanks that a list sets before them, and what is left of it: as many lines.
fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose) = (Vec::<Block>::new(), String::new());
    let mut indent = None;
    for (at, line) in page.lines().enumerate() {
        let blanks = line.len() - line.trim_start().len();
        match (indent, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                indent = Some(blanks);
                blocks.push(Block {
                    line: at + 1,
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => indent = None,
            (Some(indent), None) => {
                let block = blocks.last_mut().unwrap();
                block.text += line.get(indent.min(blanks)..).unwrap();
                block.text.push('\n');
            }
            (None, None) => prose += line,
        }
        prose.push('\n');
    }
    assert_eq!(indent, None, "a fence is not closed: {blocks:#?}");
    (blocks, prose)
}

#[test]
fn blocks_are_found_where_they_stand() {
    let (blocks, prose) = split("a\n1. b\n   ```sh\n   c\n     d\n   ```\ne\n");
    assert_eq!(
        blocks,
        [Block {
            line: 3,
            language: "sh".into(),
            text: "c\n  d\n".into()
        }]
    );
    assert_eq!(prose, "a\n1. b\n\n\n\n\ne\n");
}
