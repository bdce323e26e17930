//! YAML texts as trees of values, within bounds. The loader beneath copies an anchored node for every alias, and goes down into
//! what is nested by calling itself: forty lines could ask for more memory than there is, and a megabyte of `- - - …` for more
//! stack. What a text would become is counted first, from its events, which costs neither.

use std::collections::HashMap;

use config::{FileFormat, Format};
use serde_json::Value;
use yaml_rust2::Event;
use yaml_rust2::parser::Parser;

/// Mappings and lists within each other. Ours need six.
pub(super) const DEPTH: usize = 32;

/// Bytes of a file, and of what aliases make of it.
pub(super) const SIZE: usize = 1 << 20;

/// Reads a text whose root is a mapping.
///
/// # Errors
/// What is wrong, with the line where that is known.
pub(super) fn read(text: &str) -> Result<Value, String> {
    bounded(text)?;
    let table = FileFormat::Yaml
        .parse(None, text)
        .map_err(|error| error.to_string())?;
    config::Value::from(table)
        .try_deserialize()
        .map_err(|error| error.to_string())
}

/// Refuses what would become too deep or too large.
fn bounded(text: &str) -> Result<(), String> {
    let too_large = || format!("it has more than {SIZE} bytes, or would by its aliases");
    if text.len() > SIZE {
        return Err(too_large());
    }
    let mut parser = Parser::new(text.chars());
    let mut size = 0_usize;
    // Of each node that is open: its anchor (0: none), and the size of all that stands before it.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut anchored: HashMap<usize, usize> = HashMap::new();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        match event {
            Event::StreamEnd => return Ok(()),
            Event::MappingStart(anchor, _) | Event::SequenceStart(anchor, _) => {
                if open.len() == DEPTH {
                    return Err(format!(
                        "more than {DEPTH} mappings and lists within each other at line {}",
                        mark.line()
                    ));
                }
                open.push((anchor, size));
                size += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some((anchor, before)) = open.pop() {
                    anchored.insert(anchor, size - before);
                }
            }
            Event::Scalar(value, _, anchor, _) => {
                size += 1 + value.len();
                anchored.insert(anchor, 1 + value.len());
            }
            Event::Alias(anchor) => size += anchored.get(&anchor).copied().unwrap_or(1),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {}
        }
        if size > SIZE {
            return Err(too_large());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_followed() {
        let text = "a: &a { b: [1, 2] }\nc: *a\nd: [*a, *a]\n";
        let read = read(text).unwrap();
        assert_eq!(read["d"][1], read["a"]);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..40 {
            let alias = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", [&*alias; 9].join(", "));
        }
        let why = read(&text).unwrap_err();
        assert!(why.contains("by its aliases"), "{why}");
        let large = format!(
            "a: &a '{}'\nb: [{}]\n",
            "x".repeat(10_000),
            ["*a"; 1_000].join(", ")
        );
        assert!(read(&large).unwrap_err().contains("by its aliases"));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_without_stack() {
        let deep = |depth: usize| format!("a:\n  {}1\n", "- ".repeat(depth));
        assert!(read(&deep(DEPTH - 1)).is_ok());
        for text in [
            deep(DEPTH),
            deep(300_000),
            "? ".repeat(300_000),
            format!("a: {}", "[".repeat(300_000)),
        ] {
            let why = read(&text).unwrap_err();
            assert!(
                why.contains("within each other") || why.contains("recursion"),
                "{why}"
            );
        }
    }

    #[test]
    fn an_endless_file_is_refused() {
        assert!(read(&" ".repeat(SIZE + 1)).unwrap_err().contains("bytes"));
    }
}
