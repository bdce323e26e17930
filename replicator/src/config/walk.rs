//! Holds a tree of values against the schema: reports everything that does not fit, each with its key path,
//! and drops it, so that what remains can be read as [`super::raw::RawConfig`] without another error.

use serde_json::{Map, Value};

use super::mistakes::{Mistakes, below, item};
use super::values::{FORMATS, Size, Span};

/// Walks `value`, which stands at `path`. `None`: it does not fit at all and must be dropped by the caller;
/// then the reason has been reported, except for null, which says nothing.
pub(crate) fn walk(
    value: Value,
    schema: &Value,
    path: &str,
    root: &Value,
    found: &mut Mistakes,
) -> Option<Value> {
    if value.is_null() {
        return None;
    }
    if let Some(keys) = schema.get("properties").and_then(Value::as_object) {
        return walk_section(value, keys, schema, path, root, found);
    }
    if let Some(of) = schema.get("additionalProperties").filter(|of| of.is_object()) {
        let Value::Object(map) = value else {
            found.add(path, format!("must be a mapping, found {}", kind(&value)));
            return None;
        };
        let walked = map.into_iter().filter_map(|(key, value)| {
            let walked = walk(value, of, &below(path, &key), root, found)?;
            Some((key, walked))
        });
        return Some(Value::Object(walked.collect()));
    }
    if let Some(of) = schema.get("items") {
        let Value::Array(list) = value else {
            found.add(path, format!("must be a list, found {}", kind(&value)));
            return None;
        };
        // Sections keep their index even where one is dropped.
        let sections = of.get("properties").is_some();
        let mut walked = Vec::with_capacity(list.len());
        for (index, value) in list.into_iter().enumerate() {
            let path = item(path, index);
            if value.is_null() {
                found.add(&path, "is empty; write it or remove it");
            }
            let kept = walk(value, of, &path, root, found);
            walked.extend(if sections {
                Some(kept.unwrap_or_default())
            } else {
                kept
            });
        }
        return Some(Value::Array(walked));
    }
    leaf(value, schema).map_err(|why| found.add(path, why)).ok()
}

/// A mapping with known keys. It is dropped where a key that it must have is missing or wrong.
fn walk_section(
    value: Value,
    keys: &Map<String, Value>,
    schema: &Value,
    path: &str,
    root: &Value,
    found: &mut Mistakes,
) -> Option<Value> {
    let Value::Object(map) = value else {
        found.add(path, format!("must be a mapping, found {}", kind(&value)));
        return None;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for key in required
        .iter()
        .filter(|key| map.get(**key).is_none_or(Value::is_null))
    {
        let what = keys
            .get(*key)
            .and_then(|key| key.get("description"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        found.add(below(path, key), format!("is missing: {what}"));
    }
    let mut kept = Map::new();
    for (key, value) in map {
        let Some(schema) = keys.get(&key) else {
            found.add(below(path, &key), unknown_key(&key, keys, root));
            continue;
        };
        if let Some(value) = walk(value, schema, &below(path, &key), root, found) {
            kept.insert(key, value);
        }
    }
    required
        .iter()
        .all(|key| kept.contains_key(*key))
        .then_some(Value::Object(kept))
}

/// A single value: its type, its format, its bounds. Texts may stand for numbers and booleans, because
/// environment variables and references are texts.
fn leaf(value: Value, schema: &Value) -> Result<Value, String> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        if words.contains(&value) {
            return Ok(value);
        }
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        return Err(format!("`{shown}` is not known; write {}", one_of(&words)));
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let is = |name: &str| types.contains(&name);
    let value = match value {
        Value::String(text) if is("string") => {
            check_format(&text, schema)?;
            return Ok(Value::String(text));
        }
        Value::Bool(_) | Value::Number(_) if is("string") && is(type_name(&value)) => {
            let text = value.to_string();
            check_format(&text, schema)?;
            return Ok(Value::String(text));
        }
        Value::String(text) if is("integer") => text.parse::<i64>().map_or(Value::String(text), Value::from),
        Value::String(text) if is("boolean") => text.parse::<bool>().map_or(Value::String(text), Value::from),
        other => other,
    };
    if value.is_boolean() && is("boolean") {
        return Ok(value);
    }
    if let (Some(number), true) = (value.as_i64(), is("integer")) {
        return check_range(number, schema).map(|()| value);
    }
    let wanted = match (is("boolean"), is("integer")) {
        (true, _) => "true or false",
        (_, true) => "a whole number",
        _ => "a text (put it in quotes)",
    };
    Err(format!("must be {wanted}, found {}", kind(&value)))
}

fn check_format(text: &str, schema: &Value) -> Result<(), String> {
    let Some(format) = schema.get("format").and_then(Value::as_str) else {
        return Ok(());
    };
    if let Some((_, parse)) = FORMATS.iter().find(|(name, _)| *name == format) {
        parse(text)?;
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_str);
    let out_of = |text: &str| {
        let (min, max) = (bound("x-min"), bound("x-max"));
        Err(match (min, max) {
            (Some(min), Some(max)) => format!("`{text}` is out of range; write {min} to {max}"),
            (Some(min), None) => format!("`{text}` is too small; write at least {min}"),
            _ => format!("`{text}` is too large; write at most {}", max.unwrap_or_default()),
        })
    };
    let outside = match format {
        "duration" => outside::<Span>(text, bound("x-min"), bound("x-max")),
        "size" => outside::<Size>(text, bound("x-min"), bound("x-max")),
        _ => false,
    };
    if outside { out_of(text) } else { Ok(()) }
}

fn outside<T: std::str::FromStr + PartialOrd>(text: &str, min: Option<&str>, max: Option<&str>) -> bool {
    let parse = |text: &str| text.parse::<T>().ok();
    let value = parse(text);
    min.and_then(parse).is_some_and(|min| value.as_ref() < Some(&min))
        || max.and_then(parse).is_some_and(|max| value.as_ref() > Some(&max))
}

fn check_range(number: i64, schema: &Value) -> Result<(), String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
    let (min, max) = (
        bound("minimum").unwrap_or(i64::MIN),
        bound("maximum").unwrap_or(i64::MAX),
    );
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(format!("{number} is out of range; write {min} to {max}"))
}

/// Says what the key may have been meant to be: the nearest key of the section, else the places where a key
/// of this name is known.
fn unknown_key(key: &str, keys: &Map<String, Value>, root: &Value) -> String {
    let nearest = keys.keys().map(|known| (distance(key, known), known)).min();
    if let Some((_, known)) = nearest.filter(|(distance, _)| *distance <= key.len().div_ceil(3)) {
        return format!("unknown key; did you mean `{known}`?");
    }
    let mut places = Vec::new();
    find_key(key, root, "", &mut places);
    if places.is_empty() {
        let known: Vec<&str> = keys.keys().map(String::as_str).collect();
        return format!("unknown key; known here: {}", known.join(", "));
    }
    format!(
        "unknown key; it belongs in {}",
        one_of(&places.iter().map(String::as_str).collect::<Vec<_>>())
    )
}

fn find_key(key: &str, schema: &Value, path: &str, places: &mut Vec<String>) {
    if let Some(keys) = schema.get("properties").and_then(Value::as_object) {
        for (known, schema) in keys {
            let path = below(path, known);
            if known == key {
                places.push(path.clone());
            }
            find_key(key, schema, &path, places);
        }
    }
    if let Some(of) = schema.get("additionalProperties") {
        find_key(key, of, &format!("{path}.<alias>"), places);
    }
    if let Some(of) = schema.get("items") {
        find_key(key, of, &format!("{path}[…]"), places);
    }
}

/// Levenshtein's distance: insertions, deletions and replacements of one character.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The kind of a value in words. Never the value: it may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, apart) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("delivry", "delivery", 1),
        ] {
            assert_eq!(distance(a, b), apart, "{a} {b}");
            assert_eq!(distance(b, a), apart, "{b} {a}");
        }
    }
}
