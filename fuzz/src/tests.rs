#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;

use super::TARGETS;

/// Every seed, and every input that was once found to do harm.
#[test]
fn the_corpus_does_no_harm() {
    for target in TARGETS {
        let mut inputs = (target.seeds)().unwrap();
        assert!(inputs.len() > 3, "{}", target.name);
        let found = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let mut names: Vec<_> = std::fs::read_dir(&found).into_iter().flatten().collect();
        names.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        inputs.extend(
            names
                .into_iter()
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap()),
        );
        for input in inputs {
            (target.run)(&input);
        }
    }
}

/// A folder of the corpus that no target has would be run by nobody.
#[test]
fn every_folder_of_the_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in std::fs::read_dir(corpus).into_iter().flatten() {
        let name = folder.unwrap().file_name();
        assert!(super::target(name.to_str().unwrap()).is_some(), "{name:?}");
    }
}
