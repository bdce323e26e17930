//! `replicator/man`: pages of the manual, one for each command, made from what `--help` is made of.

use std::collections::BTreeMap;

use clap::CommandFactory;
use kuroshio::cli::Cli;

const FOLDER: &str = "replicator/man";

/// The pages by file name.
fn made() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
    let pages = std::fs::read_dir(folder.path()).unwrap().map(|page| {
        let page = page.unwrap();
        let name = page.file_name().into_string().unwrap();
        (name, std::fs::read_to_string(page.path()).unwrap())
    });
    pages.collect()
}

#[test]
fn the_manual_is_what_the_command_line_says() {
    let made = made();
    assert!(
        made.contains_key("kuroshio.1") && made.contains_key("kuroshio-run.1") && made.len() > 12,
        "{:?}",
        made.keys()
    );
    let folder = super::root().join(FOLDER);
    if std::env::var_os("WRITE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for old in super::files(FOLDER) {
            std::fs::remove_file(super::root().join(old)).unwrap();
        }
        for (name, page) in made {
            std::fs::write(folder.join(name), page).unwrap();
        }
        return;
    }
    let written = super::files(FOLDER).into_iter().map(|path| {
        let name = path.rsplit('/').next().unwrap().to_owned();
        (name, super::text(&path))
    });
    assert!(
        written.collect::<BTreeMap<_, _>>() == made,
        "{FOLDER} is not what the command line says: WRITE=1 cargo test -p kuroshio --test docs man, and look at the difference"
    );
}

/// What is released says which version it is, everywhere the same.
#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = super::text("CHANGELOG.md");
    let first = changelog.lines().find(|line| line.starts_with("## ")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        first == format!("## {version}") || first == "## Unreleased",
        "{first}: this is {version}"
    );
    let manifest = super::text("Cargo.toml");
    let ours = manifest
        .lines()
        .filter(|line| line.starts_with("kuroshio-") && line.contains("version"));
    let mut count = 0;
    for line in ours {
        count += 1;
        assert!(line.contains(&format!("version = \"{version}\"")), "{line}");
    }
    assert_eq!(count, 3, "crates that are published name each other by version");
}
