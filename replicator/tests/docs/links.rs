//! Links lead to files and headings that are there, also in the book, which has the pages below `docs` and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use regex::Regex;

/// The list of the book's pages.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The names that GitHub and mdBook give to a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut seen = BTreeMap::<String, usize>::new();
    let mut anchors = BTreeSet::new();
    for line in super::split(page).1.lines().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim();
        let heading = link.replace_all(heading, "$1").to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let times = seen.entry(name.clone()).or_default();
        anchors.insert(if *times == 0 {
            name
        } else {
            format!("{name}-{times}")
        });
        *times += 1;
    }
    anchors
}

/// The links of a page, with the lines that they stand in.
fn links(page: &str) -> Vec<(usize, String)> {
    let code = Regex::new("`[^`]*`").unwrap();
    let link = Regex::new(r"\]\(([^)\s]*)\)").unwrap();
    let prose = super::split(page).1;
    let lines = prose.lines().enumerate().map(|(at, line)| (at + 1, line));
    let found = lines.flat_map(|(at, line)| {
        let line = code.replace_all(line, "");
        let targets = link.captures_iter(&line);
        targets.map(|found| (at, found[1].to_owned())).collect::<Vec<_>>()
    });
    found.collect()
}

/// Where `link` of `page` leads to, from the root on.
fn followed(page: &str, link: &str) -> Option<String> {
    let joined = Path::new(page).parent()?.join(link);
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// What is wrong with the links of all pages.
fn broken(pages: &BTreeMap<String, String>, files: &BTreeSet<String>) -> Vec<String> {
    let mut broken = Vec::new();
    for (page, text) in pages {
        for (line, link) in links(text) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                Some(page.clone())
            } else {
                followed(page, path)
            };
            let there = target.filter(|target| files.contains(target));
            let why = match there {
                None => "no such file",
                Some(target) if page.starts_with("docs/") && !target.starts_with("docs/") => {
                    "leads out of the book, where it is dead: write the path as code"
                }
                Some(target) if !anchor.is_empty() => match pages.get(&target) {
                    Some(page) if anchors(page).contains(anchor) => continue,
                    _ => "no such heading",
                },
                Some(_) => continue,
            };
            broken.push(format!("{page}:{line}: {link}: {why}"));
        }
    }
    broken
}

#[test]
fn links_lead_somewhere() {
    let files = super::files("").into_iter().collect();
    let pages = super::pages();
    let count: usize = pages.values().map(|page| links(page).len()).sum();
    assert!(count > 80, "only {count} links: are they still found?");
    assert_eq!(broken(&pages, &files), Vec::<String>::new());
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = super::text(SUMMARY);
    let mut listed: Vec<_> = links(&summary)
        .into_iter()
        .filter_map(|(_, link)| followed(SUMMARY, &link))
        .collect();
    let mut pages: Vec<_> = super::files("docs")
        .into_iter()
        .filter(|path| path.ends_with(".md") && path != SUMMARY)
        .collect();
    listed.sort();
    pages.sort();
    assert_eq!(listed, pages, "left: {SUMMARY}, right: the folder");
    // mdBook makes an index of them, and leaves links to them as they are.
    let book = super::text("book.toml");
    for page in pages.iter().filter(|page| page.ends_with("README.md")) {
        let page = page.strip_prefix("docs").unwrap().replace(".md", ".html");
        assert!(
            book.contains(&format!("\n\"{page}\" = \"index.html\"\n")),
            "book.toml has no redirect from {page}"
        );
    }
}

#[test]
fn planted_mistakes_are_found() {
    let page = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let mut pages = BTreeMap::from([
        page("docs/b/c.md", "# A `b`, c: d\n## x\n## x\n"),
        page("R.md", ""),
    ]);
    let files: BTreeSet<_> = ["docs/b/c.md", "docs/a.md", "R.md", "L"]
        .map(str::to_owned)
        .into();
    for (link, wrong) in [
        ("[a](b/c.md)", None),
        ("[a](b/c.md#a-b-c-d)", None),
        ("[a](b/../b/c.md#x-1)", None),
        ("[a](#here)\n# Here", None),
        ("[a](https://kafka.apache.org)", None),
        ("`[a](nowhere.md)`", None),
        ("```sh\n[a](nowhere.md)\n```", None),
        ("[a](c.md)", Some("docs/a.md:1: c.md: no such file")),
        (
            "\n[a](b/c.md#x-2)",
            Some("docs/a.md:2: b/c.md#x-2: no such heading"),
        ),
        ("[a](http://x)", Some("docs/a.md:1: http://x: no such file")),
        ("[a](../../R.md)", Some("docs/a.md:1: ../../R.md: no such file")),
        (
            "[a](../L)",
            Some("docs/a.md:1: ../L: leads out of the book, where it is dead: write the path as code"),
        ),
    ] {
        pages.extend([page("docs/a.md", link)]);
        let found = broken(&pages, &files);
        assert_eq!(found, Vec::from_iter(wrong), "{link}");
    }
}
