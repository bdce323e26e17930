//! `docs/aws`: policies are what the binary prints, and Terraform's files are of one piece. No provider is asked.

use std::collections::BTreeSet;
use std::process::Command;

use hcl::{Attribute, BlockLabel, Body, Expression};
use regex::Regex;

const FOLDER: &str = "docs/aws";

#[test]
fn the_policies_are_what_the_binary_prints() {
    for here in ["jp", "tw"] {
        for on in ["jp", "tw"] {
            let printed = Command::new(env!("CARGO_BIN_EXE_kuroshio"))
                .args(["iam-policy", "--config", "kuroshio.yaml"])
                .args(["--region", here, "--cluster", on])
                .current_dir(super::root().join(FOLDER))
                .output()
                .unwrap();
            assert!(printed.status.success(), "{printed:?}");
            let printed = String::from_utf8(printed.stdout).unwrap();
            for open in ["ACCOUNT_ID", "CLUSTER_NAME", "CLUSTER_UUID"] {
                assert!(
                    printed.contains(open),
                    "{open} is what iam.tf replaces: {printed}"
                );
            }
            let file = format!("{FOLDER}/{here}-on-{on}.json");
            if std::env::var_os("WRITE").is_some() {
                std::fs::write(super::root().join(&file), printed).unwrap();
            } else {
                assert!(
                    super::text(&file) == printed,
                    "{file} is not what is printed: WRITE=1 cargo test -p kuroshio --test docs aws"
                );
            }
        }
    }
}

/// What a folder's files declare, as it is referred to: `var.x`, `local.x`, `data.type.name`, `type.name`.
fn declared(bodies: &[Body]) -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    for block in bodies.iter().flat_map(Body::blocks) {
        let labels: Vec<_> = block.labels.iter().map(BlockLabel::as_str).collect();
        match (block.identifier(), labels.as_slice()) {
            ("variable", [name]) => drop(declared.insert(format!("var.{name}"))),
            ("resource", [kind, name]) => drop(declared.insert(format!("{kind}.{name}"))),
            ("data", [kind, name]) => drop(declared.insert(format!("data.{kind}.{name}"))),
            ("locals", []) => {
                let keys = block.body.attributes();
                declared.extend(keys.map(|local| format!("local.{}", local.key())));
            }
            ("provider", [name]) => {
                let alias = block.body.attributes().find(|local| local.key() == "alias");
                if let Some(Expression::String(alias)) = alias.map(Attribute::expr) {
                    declared.insert(format!("{name}.{alias}"));
                }
            }
            ("terraform", []) => {}
            other => panic!("what is {other:?}?"),
        }
    }
    declared
}

/// What is wrong with the Terraform of a folder.
fn wrong(texts: &[String]) -> Vec<String> {
    let (mut bodies, mut wrong) = (Vec::new(), Vec::new());
    for text in texts {
        match hcl::parse(text) {
            Ok(body) => bodies.push(body),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let declared = declared(&bodies);
    let comment = Regex::new(r"(?m)^\s*#.*$").unwrap();
    let text = Regex::new(r#""(?:[^"$]|\$[^{])*""#).unwrap();
    let reference = Regex::new(r"\b(data\.aws_\w+|aws_\w+|var|local|aws)\.(\w+)").unwrap();
    for file in texts {
        let file = comment.replace_all(file, "");
        let file = text.replace_all(&file, "");
        for found in reference.find_iter(&file) {
            if !declared.contains(found.as_str()) {
                wrong.push(format!("{} is not declared", found.as_str()));
            }
        }
    }
    wrong
}

#[test]
fn terraform_is_of_one_piece() {
    for (folder, least) in [(FOLDER.to_owned(), 5), (format!("{FOLDER}/network"), 1)] {
        let files = super::files(&folder).into_iter().filter(|path| {
            let name = path.strip_prefix(&format!("{folder}/")).unwrap();
            name.ends_with(".tf") && !name.contains('/')
        });
        let texts: Vec<_> = files.map(|path| super::text(&path)).collect();
        assert!(texts.len() >= least, "{folder}: {} files", texts.len());
        assert_eq!(wrong(&texts), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn the_index_has_every_file() {
    let index = super::text("docs/aws/README.md");
    for file in super::files(FOLDER) {
        let file = file.strip_prefix("docs/aws/").unwrap();
        if !file.ends_with(".md") {
            assert!(index.contains(&format!("`{file}`")), "{file}");
        }
    }
}

#[test]
fn planted_mistakes_are_found() {
    let one = "variable \"a\" {}\nlocals { b = var.a }\nresource \"aws_x\" \"c\" { d = local.b }\n";
    for (more, count) in [
        ("", 0),
        ("# var.z\nresource \"aws_y\" \"e\" { f = \"${aws_x.c.id}\" }", 0),
        ("resource \"aws_y\" \"e\" { f = aws_x.d.id }", 1),
        ("resource \"aws_y\" \"e\" { f = local.z + var.y }", 2),
        ("resource \"aws_y\" {", 1),
    ] {
        let found = wrong(&[one.to_owned(), more.to_owned()]);
        assert_eq!(found.len(), count, "{more}: {found:?}");
    }
}
